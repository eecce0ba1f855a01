"""Preview an operator's fact: fold it on a copy of the run's present state, and tell the consequences. Writes nothing.

The consequences are sentences, the same for command line, REST and page. The state is folded from the key's
records up to the end of the log, so that a read model that lags changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from choreo.app.query.comparison import Changed, compared
from choreo.app.query.flows import Flows
from choreo.app.query.installation import Installation
from choreo.app.query.readers import fields_reader
from choreo.app.query.status_text import moment
from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.views import Detail, detail_of, view
from choreo.core import facts
from choreo.core.errors import DecodeError
from choreo.core.events import Envelope, Position, Record
from choreo.core.flow_table import FlowTable
from choreo.core.foresight import Foresight, Undo, foresee, fragile
from choreo.core.partition import partition_of
from choreo.core.state import COMPENSATED, STUCK, UNSETTLED, KeyState, Run
from choreo.core.wording import counted
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import InstanceView, ReadModel

PAGE = 1_000


class Decided(msgspec.Struct, frozen=True):
    """A fact that the tracker will publish."""

    type: str
    step: str
    reason: str


class Moved(NamedTuple):
    """A timer with another due time; 0: it is not there, or stands still."""

    about: str
    before_ms: int
    after_ms: int


class Preview(msgspec.Struct, frozen=True):
    """The consequences of an operator's fact, if it were published now."""

    flow: str
    key: str
    run: str
    fact: str
    """Type of the fact."""
    status: str
    """Status before it; "" where the run is not known yet."""
    becomes: str
    """Status right after it."""
    end: str
    """Status in which a run that compensates comes to rest, if every compensation answers; "" for others."""
    refused: str
    """Why the tracker will refuse it; "" where it will not."""
    sentences: list[str]
    """The consequences in words."""
    decided: list[Decided]
    """The facts that the tracker publishes for it at once."""
    undos: list[Undo]
    """Compensations in the order of their requests."""
    under_way: list[str]
    """Steps without an outcome; an effect that they leave is undone too where the run compensates."""
    fragile: list[str]
    """Those of them that leave the run stuck if they end in doubt."""
    remaining: list[str]
    """Steps with effects that stay in the world, because the run ends as it is."""
    timers: list[Moved]
    changed: list[Changed]
    """Fields of the shown state that differ right after it."""
    position: str
    """The last record that is taken into account."""
    as_of_ms: int


class Previews:
    """Makes previews."""

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        dead_letters: DeadLetters,
        clock: Clock,
        codec: Codec | None,
    ) -> None:
        """Keep the parts; nothing is read yet."""
        self._flows = flows
        self._recording = Installation(log, read_model, dead_letters, clock, "this installation")
        self._clock = clock
        self._codec = codec

    async def of(self, fact: Envelope) -> Preview:
        """Return the consequences of this fact. Raises VersionError where the run's version is not known here."""
        flow, key = fact.flow, fact.key
        table, partitions = self._flows.table(flow), await self._recording.partitions(flow)
        partition, now_ms = partition_of(key, partitions), self._clock.now_ms()
        codec, classes = self._codec, self._flows.classes[flow]
        fold = PartitionFold(table, partition, partitions, None, fields_reader(codec, classes) if codec else None)
        state = await self._state(fold, flow, key)
        opened = fold.opened([Record(flow, partition, state.position + 1, now_ms, fact)])[0]
        if opened.unreadable:
            where = f"{fact.type} of flow {flow}, key {key!r}"
            raise DecodeError(opened.unreadable, where=where, remedy="Publish the event anew, with these fields.")
        seen = foresee(table, state, fact, now_ms, opened.fields)
        before, after = state.run(fact.run), seen.after.run(fact.run)
        place = Position(flow, partition, state.position)
        return _preview(table, fact, seen, (before, after), place, now_ms)

    async def _state(self, fold: PartitionFold, flow: str, key: str) -> KeyState:
        """Return the key's state at the end of the log."""
        fold.put({}, [key])
        after = -1
        while page := await self._recording.history(flow, key, after, PAGE):
            fold.fold(page, 0)
            after = page[-1].offset
        return fold.cache[key].state


def _preview(
    table: FlowTable, fact: Envelope, seen: Foresight, runs: tuple[Run | None, Run | None], place: Position, now_ms: int
) -> Preview:
    before, after = runs
    known = [_view(table, place, fact.key, run) if run else None for run in runs]
    compensates = after is not None and after.compensating
    unsettled = [entry.step for entry in after.ledger if entry.state in UNSETTLED] if after else []
    preview = Preview(
        flow=fact.flow,
        key=fact.key,
        run=fact.run,
        fact=fact.type,
        status=before.shown if before else "",
        becomes=after.shown if after else "",
        end=seen.end if compensates and after and not after.ended else "",
        refused=next((each.reason for each in seen.decided if each.type == facts.CANCEL_REFUSED), ""),
        sentences=[],
        decided=[Decided(each.type, each.step, each.reason) for each in seen.decided if each.run == fact.run],
        undos=seen.undos,
        under_way=[pending.step for pending in seen.under_way],
        fragile=fragile(table, after) if compensates else [],
        remaining=unsettled if after and after.ended and not (before and before.ended) else [],
        timers=_moved(*known),
        changed=compared(known[0], known[1]) if known[0] and known[1] else [],
        position=f"{place.topic}/{place.partition}/{place.offset}",
        as_of_ms=now_ms,
    )
    return msgspec.structs.replace(preview, sentences=_sentences(preview, after))


def _view(table: FlowTable, place: Position, key: str, run: Run) -> InstanceView:
    return view(table, place.partition, key, run)


def _moved(before: InstanceView | None, after: InstanceView | None) -> list[Moved]:
    """Return the timers that differ, by name; those of a paused run stand still."""
    earlier, later = _due(before), _due(after)
    names = dict.fromkeys([*earlier, *later])
    return [
        Moved(name, earlier.get(name, 0), later.get(name, 0))
        for name in names
        if earlier.get(name, 0) != later.get(name, 0)
    ]


def _due(row: InstanceView | None) -> dict[str, int]:
    """Return the due times by name, numbered where one name stands for several."""
    found: dict[str, int] = {}
    for due_ms, about in _timers(detail_of(row)) if row else ():
        number = 1
        while (name := about if number == 1 else f"{about} ({number})") in found:
            number += 1
        found[name] = due_ms
    return found


def _timers(detail: Detail) -> Iterable[tuple[int, str]]:
    """Return the timers; of a paused run those that go on after it."""
    return msgspec.structs.replace(detail, paused_ms=0).timers


def _sentences(preview: Preview, after: Run | None) -> list[str]:
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
