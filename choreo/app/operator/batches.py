"""Batches: plan one, run it at a rate, stop it, go on with it. The notes of the backend keep plan and progress.

One runner at a time works on a batch: each write of the progress replaces the one that the runner has read, and a
runner leaves off when its write fails. Two that overlap for a moment publish the same facts, with the same ids; a dead
letter may then count as redriven once too often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from choreo.app.operator.actions import Action, Kind, Subject, fact_of, open_one
from choreo.app.operator.dead_letters import Redriver
from choreo.app.query.flows import Flows
from choreo.app.tracking.views import detail_of
from choreo.core import batch
from choreo.core.access import actor_of
from choreo.core.batch import REDRIVE, Item, Pending, Plan, Progress, Refused, State
from choreo.core.errors import ConflictError, NotFoundError, StorageError
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import Log
from choreo.ports.notes import Notes
from choreo.ports.read_model import ReadModel

T = TypeVar("T")

INDEX = "batches"
LISTED_MAX = 100
"""Batches that are listed; the notes of older ones stay."""
BEAT_MS = 10_000
"""A batch is taken over when its runner has not written for so long: a portion takes half a second, and a store that is
away is given up after about five."""
IDLE_S = 1.0
"""Time between two looks for batches without a runner: two small reads."""

OUTAGE_S = 5.0
"""Time between two attempts while a store is away."""


class Batch(msgspec.Struct, frozen=True):
    """A batch and its progress."""

    plan: Plan
    progress: Progress


class Batches:
    """Keeps and runs batches. Raises NotFoundError on an unknown one, ConflictError, StorageError."""

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        dead_letters: DeadLetters,
        notes: Notes,
        clock: Clock,
        new_name: Callable[[], str],
    ) -> None:
        """Keep the parts; nothing is read yet. `new_name` makes the name of this process."""
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._dead_letters = dead_letters
        self._redriver = Redriver(flows, log, read_model, dead_letters, clock)
        self._notes = notes
        self._clock = clock
        self._new_name = new_name
        self._name = ""

    async def begin(self, plan: Plan) -> None:
        """Keep a plan as a batch that is to be run. The same plan once more changes nothing."""
        progress = Progress(State.RUNNING if plan.items else State.DONE)
        await self._notes.swap(_plan(plan.id), _text(plan), "")
        await self._notes.swap(_progress(plan.id), _text(progress), "")
        while True:
            former = await self._notes.get(INDEX)
            known = _ids(former)
            listed = [plan.id, *(each for each in known if each != plan.id)][:LISTED_MAX]
            if plan.id in known or await self._notes.swap(INDEX, _text(listed), former):
                return

    async def get(self, batch_id: str) -> Batch:
        """Return a batch."""
        return Batch(await self._plan_of(batch_id), (await self._read(batch_id))[0])

    async def list(self, flow: str = "") -> list[Batch]:
        """Return the newest batches, of every flow or of one."""
        known = [await self.get(batch_id) for batch_id in _ids(await self._notes.get(INDEX))]
        return [each for each in known if flow in ("", each.plan.flow)]

    async def stop(self, batch_id: str) -> Batch:
        """Let the batch publish nothing more, but the portion that is under way."""
        return await self._become(batch_id, State.STOPPED)

    async def resume(self, batch_id: str) -> Batch:
        """Let a stopped batch go on: this process or another one takes it."""
        return await self._become(batch_id, State.RUNNING)

    async def work(self, stop: asyncio.Event) -> None:
        """Run batches that no process works on, one after the other, until `stop` is set."""
        while not stop.is_set():
            try:
                known = _ids(await self._notes.get(INDEX))
            except StorageError:
                known = []  # the store reports its own outage
            looks = [await self._run_if_free(batch_id, stop) for batch_id in known]
            await self._pause(IDLE_S if all(looks) else OUTAGE_S, stop)

    async def run(
        self, batch_id: str, stop: asyncio.Event, shown: Callable[[Progress], None] | None = None
    ) -> Progress:
        """Work on a batch until it is done, is stopped, or another process does; return its progress.

        `shown` gets the progress after each portion. When `stop` is set, the batch stays as it is, to be gone on with.
        """
        plan = await self._plan_of(batch_id)
        found, former = await self._read(batch_id)
        progress = replace(found, runner=self._runner, beat_ms=self._clock.now_ms())
        text = _text(progress)
        if not await self._notes.swap(_progress(batch_id), text, former):
            return (await self._read(batch_id))[0]  # another process has taken it
        while True:
            began_ms, size = self._clock.elapsed_ms(), progress.taken
            await self._publish(plan, progress)
            progress = batch.settled(plan, progress)
            over = progress.state is not State.RUNNING or stop.is_set()
            if not over:
                progress = await self._take(plan, progress)
            kept = replace(progress, runner="" if over else self._runner, beat_ms=self._clock.now_ms())
            if not await self._notes.swap(_progress(batch_id), _text(kept), text):
                progress, text = await self._read(batch_id)
                if progress.state is State.RUNNING or not (progress.taken or progress.pending):
                    return progress  # another process works on it, or it was stopped between two portions
                continue
            progress, text = kept, _text(kept)
            if shown is not None:
                shown(progress)
            if over:
                return progress
            left_s = batch.pause_s(plan, size) - (self._clock.elapsed_ms() - began_ms) / 1_000
            await self._pause(left_s, stop)

    async def _run_if_free(self, batch_id: str, stop: asyncio.Event) -> bool:
        """Run the batch unless a process works on it; return False where it cannot go on for now."""
        try:
            if not stop.is_set() and await self._is_free(batch_id):
                await self.run(batch_id, stop)
        except StorageError:
            return False
        return True

    @property
    def _runner(self) -> str:
        self._name = self._name or self._new_name()
        return self._name

    async def _take(self, plan: Plan, progress: Progress) -> Progress:
        """Return the progress with the facts of the next portion; refused items are settled at once."""
        found: list[Pending] = []
        refused: list[Refused] = []
        items = batch.portion(plan, progress)
        letters = await self._letters(plan, progress.at, len(items))
        for item in items:
            try:
                found.append(Pending(item, await self._fact(plan, item, letters)))
            except (ConflictError, NotFoundError) as error:
                refused.append(Refused(item.id, item.key, f"{error.what}. {error.remedy}"))
        return batch.taken(progress, len(items), found, refused)

    async def _letters(self, plan: Plan, at: int, number: int) -> Mapping[str, DeadLetter]:
        """Return the dead letters of these items, by id: read as pages of the list, because its order is the plan's."""
        wanted = {item.id for item in plan.items[at : at + number]} if plan.action == REDRIVE else set()
        found: dict[str, DeadLetter] = {}
        after = plan.items[at - 1].id if at else ""
        while len(found) < len(wanted):
            try:
                page = await self._dead_letters.list(plan.flow, batch.PORTION_MAX, after)
            except NotFoundError:
                if not after:
                    raise
                after = ""  # the letter before these is gone: its topic's retention is over
                continue
            found |= {letter.id: letter for letter in page if letter.id in wanted}
            if not page:
                break
            after = page[-1].id
        return found

    async def _fact(self, plan: Plan, item: Item, letters: Mapping[str, DeadLetter]) -> Envelope:
        """Return the fact about an item as it is now. Raises ConflictError, NotFoundError."""
        by = actor_of(plan.by)
        if plan.action == REDRIVE:
            letter, where = letters.get(item.id), f"dead letter {item.id}"
            if letter is None:
                raise NotFoundError("it is not kept any more", where=where, remedy="Publish the event anew.")
            if letter.redriven != item.redriven:
                raise ConflictError("it was redriven since the batch was planned", where=where, remedy="See its run.")
            return replace(await self._redriver.event_of(letter, by), flow=plan.flow)
        action = Action(Kind(plan.action), plan.flow, item.key, item.id, plan.entry, plan.reason)
        row = await self._read_model.instance(plan.flow, item.key, item.id)
        subject = Subject(self._flows.table(plan.flow), row, detail_of(row)) if row else None
        return fact_of(action, open_one(subject, action), by, self._clock.now_ms())

    async def _publish(self, plan: Plan, progress: Progress) -> None:
        """Publish the facts that are kept; after a crash once more."""
        if not progress.pending:
            return
        await self._log.append(plan.flow, [each.fact for each in progress.pending])
        if plan.action == REDRIVE:
            letters = await self._letters(plan, progress.at, progress.taken)
            counted = {each.item.id for each in progress.pending if _is_as_planned(each.item, letters)}
            await asyncio.gather(*(self._dead_letters.redriven(letter_id) for letter_id in counted))

    async def _is_free(self, batch_id: str) -> bool:
        progress, _ = await self._read(batch_id)
        silent_ms = self._clock.now_ms() - progress.beat_ms
        left = progress.state is State.RUNNING or bool(progress.pending)
        return left and (not progress.runner or progress.runner == self._runner or silent_ms > BEAT_MS)

    async def _become(self, batch_id: str, state: State) -> Batch:
        plan = await self._plan_of(batch_id)
        while True:
            progress, text = await self._read(batch_id)
            if progress.is_over or progress.state is state:
                where = f"batch {batch_id}"
                raise ConflictError(f"the batch is {progress.state}", where=where, remedy="There is nothing to change.")
            changed = replace(progress, state=state)
            if await self._notes.swap(_progress(batch_id), _text(changed), text):
                return Batch(plan, changed)

    async def _plan_of(self, batch_id: str) -> Plan:
        text = await self._notes.get(_plan(batch_id))
        if not text:
            raise NotFoundError(
                f"there is no batch {batch_id!r:.100}", where="batches", remedy="`choreo batch list` shows them."
            )
        return _decoded(_decode_plan, text, batch_id)

    async def _read(self, batch_id: str) -> tuple[Progress, str]:
        text = await self._notes.get(_progress(batch_id))
        return (_decoded(_decode_progress, text, batch_id) if text else Progress()), text

    async def _pause(self, duration_s: float, stop: asyncio.Event) -> None:
        """Wait, unless the process ends."""
        if duration_s <= 0 or stop.is_set():
            return
        sleeping = asyncio.ensure_future(self._clock.sleep(duration_s))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        sleeping.cancel()
        stopping.cancel()


def _is_as_planned(item: Item, letters: Mapping[str, DeadLetter]) -> bool:
    """Return whether the redrive of a dead letter is to be counted: it was not before a crash."""
    letter = letters.get(item.id)
    return letter is not None and letter.redriven == item.redriven


def _plan(batch_id: str) -> str:
    return f"batch/{batch_id}/plan"


def _progress(batch_id: str) -> str:
    return f"batch/{batch_id}/progress"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(decode: Callable[[str], T], text: str, batch_id: str) -> T:
    try:
        return decode(text)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"its note cannot be read: {error}",
            where=f"batch {batch_id}",
            remedy="It was written by another version of choreo: plan it anew.",
        ) from error


def _ids(text: str) -> list[str]:
    return msgspec.json.decode(text, type=list[str]) if text else []


_decode_plan = msgspec.json.Decoder(Plan).decode
_decode_progress = msgspec.json.Decoder(Progress).decode
