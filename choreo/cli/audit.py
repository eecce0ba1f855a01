"""`choreo audit`: list the actions of operators on a flow: author, method, reason and time, newest first."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.operator.audit import AuditPage
from choreo.app.query.status_text import moment
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import FlowArgument, chosen, in_app
from choreo.core.access import Actor
from choreo.surfaces.audit_format import audit_of
from choreo.wiring import App


def audit(
    flow: FlowArgument = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    cursor: Annotated[str, typer.Option(help="The cursor of the page before.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List the actions of operators on a flow, newest first. A page may be short; its cursor leads on."""

    async def ask(app: App) -> AuditPage:
        return await app.operator.audit(chosen(app.flows, flow), limit, cursor)

    page = in_app(ask)
    if output is Format.JSON:
        document(audit_of(page).model_dump())
        return
    rows = [
        (moment(row.stamp_ms), row.key, row.type, row.step, Actor(row.actor, row.method).shown, row.reason)
        for row in page.items
    ]
    table(("time", "key", "action", "step", "by", "reason"), rows)
    if page.cursor:
        write(plain(f"more: --cursor {page.cursor}"))
