"""`choreo list`: list instances, newest first, filtered by status, key, time and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from choreo.app.query.attribute_filters import FORMS, condition_of
from choreo.app.query.status_text import moment
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, in_app
from choreo.core.errors import SettingsError
from choreo.core.state import STATUSES
from choreo.ports.read_model import Condition, Filter, InstanceView, Page
from choreo.surfaces.json_format import summary_of
from choreo.wiring import App

STYLES = {"stuck": "red", "compensating": "yellow", "paused": "yellow", "truncated": "yellow", "terminated": "dim"}


def list_(
    flow: FlowArgument = "",
    *,
    status: Annotated[
        str, typer.Option(help=f"One of {', '.join(STATUSES)}.", autocompletion=lambda: list(STATUSES))
    ] = "",
    key: Annotated[str, typer.Option(help="Every run of this key.")] = "",
    attr: Annotated[list[str] | None, typer.Option(help=f"{FORMS}; may be repeated.")] = None,
    since: Annotated[str, typer.Option(help="Started at this time or later (ISO 8601).")] = "",
    before: Annotated[str, typer.Option(help="Started before this time (ISO 8601).")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    cursor: Annotated[str, typer.Option(help="The cursor of the page before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List instances, newest first; without FLOW those of every flow."""
    filter_ = filter_of(flow, status, key, attr or (), since, before)

    async def ask(app: App) -> Page:
        return await app.queries.instances(filter_, limit, cursor)

    page = in_app(ask)
    if output is Format.JSON:
        document({"items": [summary_of(row).model_dump() for row in page.items], "cursor": page.cursor})
        return
    rows: list[tuple[str, ...]]
    rows = [(row.flow, row.key, row.status, moment(row.started_ms), row.cause) for row in page.items]
    header: tuple[str, ...] = ("flow", "key", "status", "started", "cause")
    if any(map(_declared, page.items)):
        header = (*header, "attributes")
        rows = [(*cells, _declared(row)) for cells, row in zip(rows, page.items, strict=True)]
    table(header, rows, styles=[STYLES.get(row.status, "") for row in page.items])
    if page.cursor:
        write(plain(f"more: --cursor {page.cursor}"))


def filter_of(flow: str, status: str, key: str, attr: Sequence[str], since: str, before: str) -> Filter:
    """Return the filter in the options of a command. Raises SettingsError."""
    if status and status not in STATUSES:
        raise SettingsError(f"{status!r} is no status", where="--status", remedy=f"Use one of {', '.join(STATUSES)}.")
    equal, conditions = _attributes(attr)
    return Filter(flow, status, key, equal, _time(since, "--since"), _time(before, "--before"), conditions)


def _declared(row: InstanceView) -> str:
    """Return the search attributes of a run in a line."""
    return ", ".join(f"{name}={row.attributes[name]}" for name in row.keys if name in row.attributes)


def _attributes(texts: Sequence[str]) -> tuple[dict[str, str], tuple[Condition, ...]]:
    """Return equal values by name, and other comparisons.

    Raises SettingsError on two values of one name, because no run has both.
    """
    equal: dict[str, str] = {}
    others: list[Condition] = []
    for condition in map(_condition, texts):
        if condition.operator != "=":
            others.append(condition)
        elif equal.setdefault(condition.name, condition.key) != condition.key:
            raise SettingsError(f"{condition.name:.100} is given twice", where="--attr", remedy="Keep one of the two.")
    return equal, tuple(others)


def _condition(text: str) -> Condition:
    found = condition_of(text)
    if found is None:
        raise SettingsError(
            f"{text!r:.100} is no filter",
            where="--attr",
            remedy=f"Write {FORMS}, such as customer_id=c-7 or 'amount>=100'.",
        )
    return found


def _time(text: str, where: str) -> int:
    """Return epoch milliseconds; a time without a zone is UTC, as everywhere in choreo."""
    if not text:
        return 0
    try:
        parsed = datetime.fromisoformat(text)
        moment_ms = round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)
    except (ValueError, OverflowError) as error:
        raise SettingsError(
            f"{text!r} is no time", where=where, remedy="Write it such as 2025-03-01T12:00Z."
        ) from error
    return max(1, moment_ms)  # 0 would be no filter, and no run was started before 1970
