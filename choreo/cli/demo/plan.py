"""The interface of a project's demo, and how `choreo demo` finds it. Knows no kinds of runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from choreo import Event
from choreo.core.errors import NotFoundError, SettingsError
from choreo.settings import Settings
from choreo.wiring.flows import add_project_to_path


class Kind(Protocol):
    """A kind of run."""

    name: str
    ends: str
    """The outcome of such a run where its flow has several and it completes, else its status."""
    started_twice: bool


class Placed(Protocol):
    """One run to start."""

    kind: Kind
    event: Event


class Demo(Protocol):
    """The interface of a demo object: the runs of one flow, and the world around them."""

    flow: str
    flows: Sequence[str]
    """`module:name` of this flow, and of the flows of its children."""
    unit: str
    """The noun for one run of it: `order`."""
    books: str
    """The subject of the audit's sentence: `Money and stock`."""
    shows: str
    """The name of the kind of which the demo shows a timeline."""
    time_scale: float
    listens: frozenset[str]

    def prepare(self, folder: Path) -> None:
        """Create new books in this folder."""

    def orders(self, count: int) -> Sequence[Placed]:
        """Return the runs to start."""

    def answer(self, key: str, type_: str) -> Event | bytes | None:
        """Return the outside world's answer to an event of this key and type: an event, garbage, or nothing."""

    def audit(self, folder: Path, outcomes: Mapping[str, str]) -> list[str]:
        """Return the violations, one sentence each. `outcomes` has the status of each key."""


def load_demos(settings: Settings) -> tuple[Demo, ...]:
    """Return the project's demo objects, one or a tuple of them; raises SettingsError with the remedy."""
    remedy = 'Run it in choreo\'s own checkout, or name your own: demo = "module:name" under [tool.choreo].'
    if not settings.demo:
        raise SettingsError("this project has no demo", where="setting demo", remedy=remedy)
    module_name, _, attribute = settings.demo.partition(":")
    add_project_to_path()
    try:
        found: Demo | tuple[Demo, ...] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(str(error), where=f"setting demo, {settings.demo!r}", remedy=remedy) from error
    demos = found if isinstance(found, tuple) else (found,)
    if len({demo.time_scale for demo in demos}) > 1:
        raise SettingsError(
            "its flows have different time scales",
            where=f"setting demo, {settings.demo!r}",
            remedy="Give all of them the same time_scale: they run in one process.",
        )
    return demos


def chosen(demos: Sequence[Demo], flow: str) -> tuple[Demo, ...]:
    """Return the demo of this flow, or all of them where none is named. Raises NotFoundError."""
    found = tuple(demo for demo in demos if flow in ("", demo.flow))
    if not found:
        known = ", ".join(demo.flow for demo in demos)
        raise NotFoundError(f"the demo has no flow {flow!r}", where="option --flow", remedy=f"Its flows are: {known}.")
    return found
