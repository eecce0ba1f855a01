"""`choreo publish`: start an instance, or publish the event from outside that an instance waits for."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from choreo.app.exact_json import read
from choreo.app.publish.publisher import Receipt
from choreo.app.query.read_your_writes import token_of
from choreo.cli.fields import of_pairs
from choreo.cli.output import Format, Output, document, plain, write
from choreo.cli.project import RunOption, chosen, event_types, flow_names, in_app
from choreo.core.errors import SettingsError
from choreo.surfaces.json_format import receipt_of
from choreo.wiring import App


def publish(
    flow: Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)],
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="The event's type, such as OrderPlaced.", autocompletion=event_types)
    ],
    *,
    key: Annotated[str, typer.Option(help="The business key; without it the event's key field.")] = "",
    field: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE; may be repeated. A list or a part is given as JSON.")
    ] = None,
    json: Annotated[str, typer.Option("--json", help="All fields as one JSON object; - reads it from stdin.")] = "",
    run: RunOption = "",
    idempotency_key: Annotated[str, typer.Option(help="The same start with the same key is published once.")] = "",
    allow_early: Annotated[
        bool, typer.Option(help="Publish an event from outside also where no run can take it.")
    ] = False,
    baggage: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE that every later step of the run sees; may be repeated.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Publish one event: a start, or one that an instance waits for. The same start is published once."""
    from_json = _object(json) if json else {}

    async def work(app: App) -> Receipt:
        name = chosen(app.flows, flow)
        fields = {**from_json, **of_pairs(app.queries.flows.event_class(name, type_), field or ())}
        return await app.publisher.publish(
            name,
            fields,
            type_=type_,
            key=key,
            run=run,
            idempotency_key=idempotency_key,
            baggage=_baggage(baggage or ()),
            allow_early=allow_early,
        )

    receipt = in_app(work)
    if output is Format.JSON:
        document(receipt_of(receipt).model_dump())
        return
    result = "was published before" if receipt.duplicate else "published"
    place = token_of(receipt.position)
    write(plain(f"{receipt.type} of {receipt.flow} {receipt.key} {result} at {place}; see `choreo show {receipt.key}`"))


def _baggage(pairs: Iterable[str]) -> dict[str, str]:
    """Return the values of `--baggage` by name."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"{pair!r:.100} is no NAME=VALUE", where="--baggage", remedy="Give: tenant=a.")
        found[name] = value
    return found


def _object(text: str) -> dict[str, Any]:
    """Return the fields in a JSON text."""
    where = "stdin" if text == "-" else "--json"
    try:
        fields = read(sys.stdin.buffer.read() if text == "-" else text)
    except ValueError as error:
        raise SettingsError(
            f"is not JSON: {error}", where=where, remedy="""Give one object: '{"order_id": "o-1"}'."""
        ) from error
    if not isinstance(fields, dict):
        raise SettingsError("is JSON, but no object", where=where, remedy="""Give one object: '{"order_id": "o-1"}'.""")
    return fields
