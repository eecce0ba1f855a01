"""`choreo tail`: print the events of a flow as they come, of every instance or of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from choreo.app.query.status_text import moment
from choreo.cli.output import Format, Output, flush, line, plain, write
from choreo.cli.project import FlowArgument, chosen, event_types, in_app
from choreo.core.errors import DecodeError
from choreo.core.events import Record
from choreo.wiring import App

PAGE = 500
"""Records read of a partition at once."""
LOOK_S = 0.2
"""How often the log is read, in seconds: soon enough for people."""


class Begin(StrEnum):
    """Where to begin."""

    START = "start"
    END = "end"


def tail(
    flow: FlowArgument = "",
    *,
    key: Annotated[str, typer.Option(help="Only events of this key.")] = "",
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", help="Only this event type; may be repeated.", autocompletion=event_types),
    ] = None,
    begin: Annotated[Begin, typer.Option("--from", help="Where to begin.")] = Begin.END,
    follow: Annotated[bool, typer.Option(help="Wait for more, until interrupted.")] = True,
    output: Output = Format.TABLE,
) -> None:
    """Print events as they come; with --from start --no-follow, all events in the log.

    Within a key the order is the log's; between keys of different partitions there is none.
    """
    types = frozenset(type_ or ())

    async def work(app: App) -> None:
        name = chosen(app.flows, flow)
        async for record in _records(app, name, begin, follow=follow):
            if (key and record.event.key != key) or (types and record.event.type not in types):
                continue
            if output is Format.JSON:
                line(_item(app, name, record))
            else:
                _print(app, name, record)

    in_app(work)


async def _records(app: App, flow: str, begin: Begin, *, follow: bool) -> AsyncIterator[Record]:
    """Yield the records of every partition; records that are read together come in the order of their stamps."""
    log = app.backend.log
    partitions = range(await log.partitions(flow))
    offsets = {number: await log.end(flow, number) if begin is Begin.END else 0 for number in partitions}
    while True:
        found: list[Record] = []
        for number in partitions:
            page = await log.read(flow, number, offsets[number], PAGE)
            found += page
            offsets[number] = page[-1].offset + 1 if page else offsets[number]
        for record in sorted(found, key=lambda each: (each.stamp_ms, each.partition, each.offset)):
            yield record
        if not found:
            if not follow:
                return
            await app.clock.sleep(LOOK_S)


def _fields(app: App, flow: str, record: Record) -> tuple[dict[str, Any], str]:
    """Return the payload's fields, or the reason why they cannot be read."""
    event = record.event
    if not event.data:
        return {}, ""
    try:
        event_class = app.queries.flows.event_class(flow, event.type)
        return app.codec.fields(event_class, event.content_type, event.data), ""
    except DecodeError as error:
        return {}, error.sentence


def _item(app: App, flow: str, record: Record) -> dict[str, Any]:
    event = record.event
    fields, unreadable = _fields(app, flow, record)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "stamp": moment(record.stamp_ms),
        "id": event.id,
        "type": event.type,
        "key": event.key,
        "run": event.run,
        "step": event.step,
        "causation": event.causation,
        "reason": event.reason,
        "baggage": event.baggage,
        "fields": fields,
        "unreadable": unreadable,
    }


def _print(app: App, flow: str, record: Record) -> None:
    event = record.event
    fields, unreadable = _fields(app, flow, record)
    about = [f"{name}={value}" for name, value in fields.items()]
    about += [event.step] if event.step and not fields else []
    about += [event.reason] if event.reason else []
    about += [f"cannot be read: {unreadable}"] if unreadable else []
    write(plain(f"{moment(record.stamp_ms)}  {event.key}  {event.type}  {' '.join(about)}".rstrip()))
    flush()
