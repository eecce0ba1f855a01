"""The compensations of stuck runs, in words that lead to the fix: the function, its error, and the way it must answer.

A run is stuck by its flow's declaration where an effect is in doubt and its compensation cannot be asked; else by a
handler that fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from choreo.app.tracking.views import Effect, detail_of
from choreo.core.declare.flow import Flow
from choreo.core.declare.steps import Step
from choreo.core.state import FAILED, STUCK
from choreo.ports.read_model import InstanceView

_OWN = ("failed with ", "answered nothing", ", expected ")
"""Parts of a cause by which a handler has failed, and not a deadline, a pause or an unreadable record."""


class Failed(NamedTuple):
    """A compensation that has failed, of a stuck run."""

    step: str
    text: str
    """A sentence about it."""
    is_declared: bool
    """Whether the flow's declaration says that the effect may stay in doubt."""
    is_own: bool
    """Whether its handler has failed: it raised, or has returned something else than its event."""


def failed_of(flow: Flow, rows: Iterable[InstanceView]) -> Iterator[Failed]:
    """Yield each failed compensation of the stuck runs among these, if its step has one."""
    for row in rows:
        for effect in detail_of(row).ledger if row.status == STUCK else ():
            step = _step(flow, effect.step)
            if effect.state == FAILED and step is not None and step.compensation is not None:
                lack = _lack(step) if effect.in_doubt else ""
                cause = effect.cause or row.cause
                text = _declared(step, lack) if lack else _sentence(step, effect, cause)
                yield Failed(step.name, text, is_declared=bool(lack), is_own=any(sign in cause for sign in _OWN))


def _sentence(step: Step, effect: Effect, cause: str) -> str:
    undo = step.compensation
    assert undo is not None  # noqa: S101 - its caller has looked
    doubt, nothing = (", which is in doubt,", ", or None if there was nothing to undo") if effect.in_doubt else ("", "")
    return (
        f"promise 4, every effect is undone: the run ends stuck, because the compensation of {step.name} failed: "
        f"{cause.rstrip('.')}. Correct {place_of(undo.handler)}: it must undo the effect{doubt} and return "
        f"{' or '.join(undo.definition.emits)}{nothing}."
    )


def _declared(step: Step, lack: str) -> str:
    undo = step.compensation
    assert undo is not None  # noqa: S101 - its caller has looked
    return (
        f"the effect of {step.name} is in doubt, and its compensation {lack}: the run ends stuck, and a person must "
        f"look. See {place_of(undo.handler)}."
    )


def _lack(step: Step) -> str:
    """Return why the compensation cannot be asked about a doubt; "" if it can."""
    undo = step.definition.compensation
    if undo is None or (undo.bars and undo.takes_none):
        return ""
    return "cannot take None" if not undo.takes_none else "cannot bar a key (bars=False)"


def _step(flow: Flow, name: str) -> Step | None:
    return next((step for service in flow.services for step in service.steps.values() if step.name == name), None)


def place_of(handler: Any) -> str:
    """Return a handler's name with its file and line."""
    function = inspect.unwrap(handler)
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", repr(function)).rpartition(".")[2]
    return f"{name} ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})" if code else name
