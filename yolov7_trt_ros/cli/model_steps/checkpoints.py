"""Load a checkpoint for a verb, and print what was found and assumed about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from pathlib import Path
from typing import Any, Literal, TYPE_CHECKING

from yolov7_trt_ros.cli import output

if TYPE_CHECKING:
    import argparse

    from yolov7_trt_ros.model.checkpoint.facts import Fact
    from yolov7_trt_ros.model.checkpoint.load import LoadedCheckpoint


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """The arguments that override what a checkpoint states or leaves open, as given."""

    class_names: str = 'auto'
    anchors: str = 'auto'
    table: str | None = None
    activation: str | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> CheckpointOptions:
        """Return the options of a command line."""
        return cls(args.class_names, args.anchors, args.table, args.activation)


def load(
    path: Path,
    options: CheckpointOptions,
    say: Callable[[str], None],
    *,
    batch_norm: Literal['fold', 'keep'] = 'fold',
) -> LoadedCheckpoint:
    """
    Load a checkpoint; `say` gets the facts found, and assumed ones are warned of.

    Raises
    ------
    Yolov7TrtError
        As in `load_checkpoint`, and for unusable names and anchors.

    """
    from yolov7_trt_ros.core.forms.anchors import choose_anchors
    from yolov7_trt_ros.engine.model_files import load_class_names
    from yolov7_trt_ros.model.checkpoint.facts import Overrides
    from yolov7_trt_ros.model.checkpoint.load import load_checkpoint

    loaded = load_checkpoint(path, batch_norm=batch_norm, overrides=Overrides(
        table=options.table, activation=options.activation,
        anchors=choose_anchors(options.anchors),
        class_names=load_class_names(options.class_names),
    ))
    rows = [('checkpoint', str(path)), *((fact.name, str(fact)) for fact in loaded.facts)]
    say(output.format_table(rows))
    assumed = [f'{fact.name} {fact.value}' for fact in loaded.facts if fact.is_assumed]
    if assumed:
        output.warn(f'{path.name} does not state everything; assumed: {"; ".join(assumed)}')
    return loaded


def facts_record(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return the facts JSON-ready, by their names."""
    return {fact.name.replace(' ', '_'): fact.as_record() for fact in facts}
