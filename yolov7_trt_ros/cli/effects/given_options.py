"""Which options were given, and a refusal of those that would have no effect. Light imports."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from yolov7_trt_ros.errors import SettingError

GIVEN = 'given '
"""Begins the attribute that the parsed arguments have for each option on the command line."""


class _NotesGiven(argparse.Action):
    """An action that notes that its option was given, besides what the next class does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
        option_string: str | None = None,
    ) -> None:
        """Act, and note each name: those of an action do not replace those of its verb."""
        super().__call__(parser, namespace, values, option_string)
        for flag in self.option_strings:
            setattr(namespace, GIVEN + flag, True)


class StoreGiven(_NotesGiven, argparse._StoreAction):
    """The action `store`, which notes that the option was given."""


class StoreTrueGiven(_NotesGiven, argparse._StoreTrueAction):
    """The action `store_true`, which notes that the option was given."""


def given(args: argparse.Namespace, flags: Iterable[str]) -> list[str]:
    """Return those of some flags whose options were on the command line, also with a default."""
    return [flag for flag in flags if hasattr(args, GIVEN + flag)]


def refuse_without_effect(args: argparse.Namespace, flags: Iterable[str], why: str) -> None:
    """
    Refuse options that would have no effect, which would not be noticed.

    Parameters
    ----------
    args
        As a VerbParser returns them.
    flags
        Long names of the options.
    why
        Reason, behind `has no effect`.

    Raises
    ------
    SettingError
        One of them was given.

    """
    if found := given(args, flags):
        verb, them = ('has', 'it') if len(found) == 1 else ('have', 'them')
        raise SettingError(
            f'{", ".join(found)} {verb} no effect {why}; leave {them} out'
        )
