"""FrameGate: all frames, none, or one that is asked for."""

from __future__ import annotations

from yolov7_trt_ros.nodes.images.frame_gate import FrameGate


def test_an_open_gate_lets_all_through_and_holds_none() -> None:
    gate: FrameGate[int] = FrameGate()
    assert not gate.is_closed and gate.admits(1)
    assert not gate.decides
    assert gate.ask([].append) is None
    assert gate.decides and gate.admits(2), 'the next one, whatever the rate'
    assert not gate.decides and gate.is_awaited
    gate.ask([].append)
    gate.report('found in another that was in work')
    assert not gate.decides


def test_a_closed_gate_holds_the_latest_frame_for_who_asks() -> None:
    gate, told = FrameGate[int](), []
    gate.close('idle')
    assert gate.is_closed and not gate.admits(1) and not gate.admits(2)
    assert gate.ask(told.append) == 2
    assert gate.is_awaited and not gate.admits(3), 'the held one is the one'
    gate.report('found')
    gate.report('found more')
    assert told == ['found'] and not gate.is_awaited


def test_without_a_held_frame_the_next_one_goes_through_and_only_that() -> None:
    gate, told = FrameGate[int](), []
    gate.close('idle')
    assert gate.ask(told.append) is None
    assert not gate.is_closed
    assert gate.admits(1) and not gate.admits(2)
    gate.ask_no_more()
    gate.report('found')
    assert told == []


def test_what_is_held_is_forgotten_with_its_subscription_and_when_it_opens() -> None:
    gate: FrameGate[int] = FrameGate()
    for forget in (gate.forget, lambda: gate.close('')):
        gate.close('idle')
        assert not gate.admits(1)
        forget()
        gate.close('idle')
        assert gate.ask([].append) is None
        gate.ask_no_more()
