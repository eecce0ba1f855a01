"""The actions on a run as buttons: each is allowed, or disabled with the reason. The server refuses the same again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from choreo.app.operator.actions import Kind
from choreo.app.tracking.views import Detail, Effect
from choreo.core.access import Caller, Role
from choreo.core.state import FAILED, UNSETTLED

_OF_EFFECTS = {"retry": Kind.RETRY, "resolve": Kind.RESOLVE}


class Button(NamedTuple):
    """An action on a run or on one effect of it."""

    path: tuple[str, ...]
    """Segments of the form's address below the run's."""
    text: str
    explained: str
    why_not: str
    """Why it may not be pressed; empty where it may."""
    needs_reason: bool = False
    """Whether it is about money or truth, so that its reason must stand in the log."""

    @property
    def kind(self) -> Kind:
        """Return the action that it does."""
        return _OF_EFFECTS.get(self.path[-1]) or Kind(self.path[-1])


def of_run(detail: Detail, caller: Caller, flow: str) -> Iterator[Button]:
    """Yield the buttons of a run."""
    ended = f"the run has ended: {detail.status}" if detail.ended_ms else ""
    decided = "the run has decided to complete" if detail.completing else ""
    if detail.paused_ms:
        why_not = ended or _lacks(caller, Role.OPERATOR, flow)
        yield Button(("resume",), "Resume", "Move every deadline by the length of the pause.", why_not)
    else:
        why_not = ended or _lacks(caller, Role.OPERATOR, flow)
        yield Button(("pause",), "Pause", "Start no further step; deadlines stand still.", why_not)
    compensating = "the run is compensating already" if detail.compensating else ""
    why_not = ended or compensating or decided or _lacks(caller, Role.OPERATOR, flow)
    yield Button(
        ("cancel",), "Cancel", "Undo everything that it has done, the newest first.", why_not, needs_reason=True
    )
    why_not = ended or decided or _lacks(caller, Role.ADMIN, flow)
    yield Button(("terminate",), "Terminate", "End it as it is: nothing is undone.", why_not, needs_reason=True)


def of_effect(effect: Effect, detail: Detail, caller: Caller, flow: str) -> Iterator[Button]:
    """Yield the buttons of one effect; none for an effect that nobody has to settle."""
    if detail.ended_ms or effect.state not in UNSETTLED or not detail.compensating:
        return
    path = ("effects", effect.entry)
    if effect.state == FAILED:
        why_not = _lacks(caller, Role.OPERATOR, flow)
        yield Button((*path, "retry"), "Retry the undo", "Request it once more, in a new round.", why_not)
    why_not = _lacks(caller, Role.ADMIN, flow)
    yield Button(
        (*path, "resolve"), "Resolve by hand", "Record that it was undone by hand, and how.", why_not, needs_reason=True
    )


def _lacks(caller: Caller, role: Role, flow: str) -> str:
    return "" if caller.may(role, flow) else f"this needs the role {role.shown}"
