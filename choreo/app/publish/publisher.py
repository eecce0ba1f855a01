"""Publish an event from outside: the start of a run, or an event that a run waits for.

An event that could not be used is refused here, before it stands in the log for ever. Other events are made by steps
and are refused too, because the tracker would believe a made-up outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from choreo.app.exact_json import read, written
from choreo.app.limits import check_size, checked_key
from choreo.app.publish.awaiting import Awaiting
from choreo.app.query.flows import Flows
from choreo.core import ids
from choreo.core.baggage import header_of
from choreo.core.errors import ConflictError, DecodeError, NotFoundError, SchemaError
from choreo.core.events import Envelope, Position, Record
from choreo.core.flow_table import FlowTable
from choreo.core.keys import key_text
from choreo.core.partition import partition_of
from choreo.event.made_anew import made_anew, without
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

HISTORY_PAGE = 1_000
LOOKED_BACK = 20
"""Runs of a key within which a repeated event from outside is looked for."""
ROOM_BYTES = 65_536
"""Bytes that an event from outside leaves free of the log's limit: later events repeat it and add their own."""

_JSON = "application/json"


class Receipt(msgspec.Struct, frozen=True):
    """The published event and its place. A read made with its position sees the event."""

    id: str
    type: str
    flow: str
    key: str
    run: str
    """Empty on an event from outside that names no run: it belongs to the key's oldest open one."""
    position: Position
    duplicate: bool = False
    """The same event stands in the log already; nothing was published."""


class Publisher:
    """Publishes events from outside. `new_id` makes an id where none can be derived."""

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        codec: Codec,
        clock: Clock,
        *,
        new_id: Callable[[], str],
        build: str = "",
    ) -> None:
        """Keep the parts; nothing is read yet. Runs that it starts are of this `build`."""
        self._build = build
        self._flows = flows
        self._log = log
        self._read_model = read_model
        self._codec = codec
        self._clock = clock
        self._new_id = new_id
        self._awaiting = Awaiting(log, read_model, clock)

    async def publish(
        self,
        flow: str,
        event: Any,
        *,
        type_: str = "",
        key: str = "",
        idempotency_key: str = "",
        run: str = "",
        traceparent: str = "",
        tracestate: str = "",
        baggage: Mapping[str, str] | str = "",
        allow_early: bool = False,
        force: bool = False,
    ) -> Receipt:
        """Publish one event: an object of its class, or its fields together with `type_`.

        `key` may be left out: the event's fields hold it. The same start (flow, key, `idempotency_key`) is published
        once. An event from outside that no run can take is refused without `allow_early`. `force`, for tests, also
        takes events that steps make. `baggage`, by name or as a W3C header, reaches every later step of the run.
        Raises NotFoundError (flow, run), DecodeError (type, field, key), BaggageError, ConflictError (not from
        outside, no longer awaited, or a start again with other fields).
        """
        carried, table = header_of(baggage), self._flows.table(flow)
        made = self._made(table, event, type_, key)
        type_ = type(made).event_type
        key = _key_of(table, made, key)
        starts = type_ == table.flow.starts
        if not (starts or force or table.comes_from_outside(type_)):
            raise _made_by_steps(table, type_)
        if starts:
            id_ = ids.start(flow, key, idempotency_key)
            if run not in ("", id_):
                raise _starts_its_own(flow, run)
            run = id_
            known = await self._start_of(flow, key, id_)
            if known is not None:
                return self._again(known, made)
        else:
            id_ = ids.derive("outside", flow, type_, key, run, idempotency_key) if idempotency_key else self._new_id()
            if run and await self._start_of(flow, key, run) is None:
                raise _no_run(flow, key, run)
            known = await self._recent_record_of(flow, key, id_) if idempotency_key else None
            if known is not None:
                return self._again(known, made)
            if not (allow_early or force):
                await self._refuse_if_late(table, type_, key, run)
        headers = {"traceparent": traceparent, "tracestate": tracestate, "baggage": carried}
        about = {"id": id_, "type": type_, "key": key, "flow": flow, "run": run, "version": table.flow.version}
        return Receipt(id_, type_, flow, key, run, await self._append(self._envelope(made, **about, **headers)))

    async def _refuse_if_late(self, table: FlowTable, type_: str, key: str, run: str) -> None:
        refusal = await self._awaiting.refusal(table, type_, key, run)
        if refusal is not None:
            raise refusal

    async def _append(self, published: Envelope) -> Position:
        """Publish it; raises ConflictError on an event so large that later events, which repeat it, would not fit."""
        taken = await self._log.bytes_max(published.flow)
        if taken:
            try:
                check_size(published, taken - min(ROOM_BYTES, taken // 4), f"event {published.type}")
            except SchemaError as error:
                raise ConflictError(error.what, where=error.where, remedy=error.remedy) from error
        return (await self._log.append(published.flow, [published]))[0]

    def _envelope(self, made: Any, **headers: Any) -> Envelope:
        return Envelope(
            source="choreo/publish",
            time_ms=self._clock.now_ms(),
            content_type=self._codec.content_type,
            data=self._codec.encode(made),
            build=self._build,
            **headers,
        )

    def _made(self, table: FlowTable, event: Any, type_: str, key: str) -> Any:
        """Return the event as an object of its class."""
        if not isinstance(event, Mapping):
            return self._of_its_class(table, event)
        event_class = self._flows.event_class(table.flow.name, type_)
        if not key or table.flow.key in event:
            return self._read(event_class, type_, event)
        try:
            return self._read(event_class, type_, {table.flow.key: key, **event})
        except DecodeError:
            typed = _typed(key)
            if isinstance(typed, str):
                raise
            return self._read(event_class, type_, {table.flow.key: typed, **event})

    def _of_its_class(self, table: FlowTable, event: Any) -> Any:
        """Return the object itself; raises DecodeError for a subclass: no reader would know its own fields."""
        type_ = getattr(type(event), "event_type", type(event).__name__)
        event_class = self._flows.event_class(table.flow.name, type_)
        if type(event) is not event_class:
            raise DecodeError(
                f"it is of another class {type(event).__qualname__} than the flow's",
                where=type_,
                remedy="Make it of the class that the flow names.",
            )
        return event

    def _read(self, event_class: type[Any], type_: str, fields: Mapping[str, Any]) -> Any:
        try:
            text = written(fields)
        except (TypeError, ValueError) as error:
            raise DecodeError(
                f"its fields cannot be written as JSON: {error}",
                where=type_,
                remedy="Use finite numbers, texts, lists and objects.",
            ) from error
        return self._codec.decode(event_class, _JSON, text, fills=True)

    def _again(self, known: Record, made: Any) -> Receipt:
        """Return the receipt of an event that stands in the log already; raises ConflictError if its fields differ."""
        event, class_ = known.event, type(made)
        before = self._codec.fields(class_, event.content_type, event.data)
        now = self._codec.fields(class_, self._codec.content_type, self._codec.encode(made))
        # The caller did not give the values that the class makes anew for each event.
        left_out = made_anew(made)
        if without(before, left_out) != without(now, left_out):
            raise ConflictError(
                "this event was published before, with other fields",
                where=f"flow {event.flow}, key {event.key!r}, {event.type} {event.id}",
                remedy="Send the fields of the first time, or another Idempotency-Key for another event.",
            )
        return Receipt(event.id, event.type, event.flow, event.key, event.run, known.position, duplicate=True)

    async def _start_of(self, flow: str, key: str, run: str) -> Record | None:
        """Return the start of this run, if it stands in the log.

        A run without a view has no start before the views' position: a key with many runs is not read from its
        beginning at each new one. The position is read first, because the views move on meanwhile.
        """
        partition = partition_of(key, await self._log.partitions(flow))
        position = (await self._read_model.positions(flow)).get(partition, 0)
        is_shown = await self._read_model.instance(flow, key, run) is not None
        return await self._record_of(flow, key, run, -1 if is_shown else position - 1)

    async def _recent_record_of(self, flow: str, key: str, event_id: str) -> Record | None:
        """Return the key's record with this id, if it stands behind the runs before its newest.

        An event that is repeated later is appended again; its readers drop it as a duplicate.
        """
        rows = await self._read_model.runs(flow, key, LOOKED_BACK)
        before = min(row.position for row in rows) if len(rows) == LOOKED_BACK else -1
        return await self._record_of(flow, key, event_id, before)

    async def _record_of(self, flow: str, key: str, event_id: str, after: int = -1) -> Record | None:
        """Return the key's record with this id after that offset; a run's id is its start's."""
        while True:
            page = await self._read_model.history(flow, key, after, HISTORY_PAGE)
            for record in page:
                if record.event.id == event_id:
                    return record
            if len(page) < HISTORY_PAGE:
                return None
            after = page[-1].offset


def _key_of(table: FlowTable, made: Any, key: str) -> str:
    """Return the business key in the event; raises DecodeError where it differs from the given key."""
    where = f"{type(made).event_type}.{table.flow.key}"
    try:
        own = checked_key(key_text(getattr(made, table.flow.key, "")), where)
    except TypeError as error:
        raise DecodeError(str(error), where=where, remedy="Give the instance's business key, like o-1001.") from error
    if key and key != own:
        raise DecodeError(
            f"the event is about {own!r}, not about the given key {key!r}",
            where=where,
            remedy="Leave the key out: it is read from this field.",
        )
    return own


def _typed(key: str) -> Any:
    """Return a key that was given as text in its field's JSON type: a number, true."""
    try:
        return read(key)
    except ValueError:
        return key


def _made_by_steps(table: FlowTable, type_: str) -> ConflictError:
    makers = [*table.successes.get(type_, ()), *table.failures.get(type_, ()), *table.compensations.get(type_, ())]
    outside = ", ".join([table.flow.starts, *sorted(table.outside)])
    return ConflictError(
        f"{type_} is published by {' or '.join(makers) or 'the tracker'}, not from outside",
        where=f"flow {table.flow.name}, type",
        remedy=f"From outside come: {outside}.",
    )


def _starts_its_own(flow: str, run: str) -> DecodeError:
    return DecodeError(
        f"a start begins a run of its own, it cannot be for {run!r}", where=f"flow {flow}, run", remedy="Leave it out."
    )


def _no_run(flow: str, key: str, run: str) -> NotFoundError:
    return NotFoundError(
        f"there is no run {run!r}",
        where=f"flow {flow}, key {key!r}",
        remedy="Leave the run out: the event then belongs to the key's oldest open run.",
    )
