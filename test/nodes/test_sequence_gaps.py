"""What is missing between two messages, by their numbers and by what the middleware reports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yolov7_trt_ros.nodes.images.sequence_gaps import ReportedLosses, SequenceGaps


def test_the_first_message_of_a_publisher_tells_nothing():
    gaps = SequenceGaps()
    assert gaps.missing_before(b'a', 41) == 0
    assert gaps.missing_before(b'a', 42) == 0
    assert gaps.missing_before(b'a', 45) == 2
    assert gaps.missing_before(b'b', 7) == 0
    assert gaps.missing_before(b'a', 46) == 0


def test_a_publisher_that_begins_anew_is_a_new_one():
    gaps = SequenceGaps()
    assert [gaps.missing_before(b'a', number) for number in (90, 1, 3)] == [0, 0, 1]


def test_what_was_not_readable_is_not_missing_as_well():
    gaps = SequenceGaps()
    gaps.missing_before(b'a', 1)
    gaps.note_unreadable()
    gaps.note_unreadable()
    assert gaps.missing_before(b'a', 5) == 1
    assert gaps.missing_before(b'a', 7) == 1


def test_publishers_without_number_do_not_fill_the_memory():
    gaps = SequenceGaps()
    for index in range(1000):
        gaps.missing_before(index.to_bytes(4, 'big'), 1)
    assert len(gaps._last) <= 256
    assert gaps.missing_before((999).to_bytes(4, 'big'), 3) == 1


@given(st.lists(st.sampled_from('toul'), max_size=60))
def test_every_message_is_counted_once(fates):
    """Messages that are taken, overwritten, unreadable or lost, with a taken one at either end."""
    gaps, losses = SequenceGaps(), ReportedLosses()
    counted = dict.fromkeys('toul', 0)
    reported = 0
    for number, fate in enumerate(['t', *fates, 't']):
        if fate == 'u':
            counted['u'] += 1
            gaps.note_unreadable()
        elif fate == 'l':
            reported += 1
        elif fate == 't':
            counted['t'] += 1
            lost, overwritten = losses.split(gaps.missing_before(b'a', number), reported)
            counted['l'] += lost
            counted['o'] += overwritten
            reported = 0
    assert counted == {fate: ['t', *fates, 't'].count(fate) for fate in 'toul'}


def test_a_loss_that_is_reported_early_belongs_to_a_later_gap():
    losses = ReportedLosses()
    assert losses.split(1, 3) == (1, 0)
    assert losses.split(5, 0) == (2, 3)
