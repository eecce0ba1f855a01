"""The consequences of an operator's fact in sentences, the same for command line, REST and page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from choreo.app.query.status_text import moment
from choreo.core import facts
from choreo.core.state import COMPENSATED, STUCK, Run
from choreo.core.wording import counted

if TYPE_CHECKING:
    from choreo.app.operator.preview import Preview


def sentences(preview: Preview, after: Run | None) -> list[str]:
    """Return the consequences, the most important first; never none."""
    if preview.refused:
        return [f"It will be refused: {preview.refused}."]
    found = [*_about_status(preview), *_about_undos(preview), *_about_steps(preview, after), *_about_timers(preview)]
    return [*found, *_about_end(preview, after)] or ["Nothing changes."]


def _about_status(preview: Preview) -> Iterator[str]:
    if preview.fact == facts.REDRIVEN:
        yield "The step runs once more on the same event, under its old id."
    elif not preview.status and preview.becomes:
        yield f"A run begins; it is {preview.becomes}."
    elif preview.status != preview.becomes:
        yield f"The run is {preview.status}, and becomes {preview.becomes}."
    if preview.remaining:
        yield f"Nothing is undone: {counted(len(preview.remaining), 'effect')} of {_listed(preview.remaining)} stay."


def _about_undos(preview: Preview) -> Iterator[str]:
    asked = [undo for undo in preview.undos if not undo.cause]
    if asked:
        order = ", in this order" if len(asked) > 1 else ""
        yield f"Undoes {_listed([undo.step for undo in asked])}{order}."
    for undo in asked:
        if undo.in_doubt:
            yield f"{undo.step} is in doubt: its compensation finds out whether there is an effect."
    for undo in preview.undos:
        if undo.cause:
            yield f"{undo.step} cannot be undone ({undo.cause}): a person has to, and to resolve it."


def _about_steps(preview: Preview, after: Run | None) -> Iterator[str]:
    if not preview.under_way or after is None or preview.fact == facts.REDRIVEN:
        return
    steps = _listed(preview.under_way)
    are = "is" if len(preview.under_way) == 1 else "are"
    if after.paused_ms and preview.fact == facts.FLOW_PAUSED:
        yield f"{steps} {are} under way: an attempt that has begun goes on, no further one starts."
    elif after.compensating:
        yield f"{steps} {are} under way: an effect that is left is undone too."
    if preview.fragile:
        yield f"If {_listed(preview.fragile)} ends in doubt, the run ends stuck: the compensation cannot ask."


def _about_timers(preview: Preview) -> Iterator[str]:
    if preview.fact == facts.FLOW_PAUSED and preview.becomes == "paused":
        yield "Every deadline stands still until the run is resumed."
    for timer in preview.timers:
        if timer.before_ms and timer.after_ms:
            yield f"{_upper(timer.about)} moves from {moment(timer.before_ms)} to {moment(timer.after_ms)}."
    ended = [timer.about for timer in preview.timers if timer.before_ms and not timer.after_ms]
    if ended:
        yield f"No longer due: {_listed(ended)}."


def _about_end(preview: Preview, after: Run | None) -> Iterator[str]:
    if after is not None and after.compensating and after.paused_ms:
        yield "Nothing is undone until the run is resumed."
    elif preview.end == COMPENSATED:
        condition = "If every compensation answers, the run" if preview.undos else "The run"
        yield f"{condition} ends compensated."
    elif preview.end == STUCK:
        yield "The run ends stuck: an operator is needed."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
