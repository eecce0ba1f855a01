"""`choreo demo`: run five hundred orders of every kind, wait until the last has ended, and audit them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer

from choreo.core.wording import counted
from choreo.redaction import redact

if TYPE_CHECKING:
    from choreo.cli.demo.play import Played

DEMO_FOLDER = Path(".choreo/demo")
"""Made new at every run; the files of a run stay until the next one."""


def demo(
    orders: Annotated[int, typer.Option(help="How many orders to place.", min=1, max=100_000)] = 500,
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Run it on this Kafka, in topics of its own.")] = "",
    redis: Annotated[str, typer.Option(metavar="URL", help="The Redis that goes with it.")] = "",
    postgres: Annotated[str, typer.Option(metavar="URL", help="Or the PostgreSQL that goes with it.")] = "",
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's topics and keys for a closer look.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="table or json")] = "table",
) -> None:
    """Place orders of every kind, let some fail, wait until each failed one is undone, and audit money and stock.

    Exits with 1 if anything does not add up.
    """
    from choreo import settings as settings_module  # noqa: PLC0415 - `choreo --help` must answer at once
    from choreo.app.failures import LOGGER  # noqa: PLC0415
    from choreo.cli.demo import play  # noqa: PLC0415

    logging.getLogger(LOGGER).setLevel(logging.ERROR)  # its handlers fail on purpose, a hundred times
    named = settings_module.load()
    what = play.load_demo(named)
    shutil.rmtree(DEMO_FOLDER, ignore_errors=True)
    DEMO_FOLDER.mkdir(parents=True)
    look = f"CHOREO_DATABASE={DEMO_FOLDER}/choreo.db"
    if kafka:
        # A cluster may hold an order topic already, with orders of the same names.
        prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] = f"demo-{uuid.uuid4().hex[:8]}."
        stores = f"CHOREO_POSTGRES={redact(postgres)}" if postgres else f"CHOREO_REDIS={redis}"
        look = f"CHOREO_KAFKA={kafka} {stores} CHOREO_KAFKA_TOPIC_PREFIX={prefix}" if keep else ""
    settings = settings_module.load(
        database=DEMO_FOLDER / "choreo.db",
        data=DEMO_FOLDER / "tracker",
        kafka=kafka,
        redis=redis,
        postgres=postgres,
        time_scale=what.time_scale,
    )
    with _Progress(orders, quiet=output == "json") as progress:
        played = asyncio.run(play.play(settings, what, DEMO_FOLDER, orders, progress.show, keep=keep))
    if output == "json":
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(played.result).decode())
        for violation in played.violations:
            typer.echo(violation, err=True)
    else:
        _print(played, look)
    raise typer.Exit(0 if played.result.audit_ok else 1)


class _Progress:
    """A progress line on standard error; silent where stderr is no terminal."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.status import Status  # noqa: PLC0415

        self._total = total
        console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
        self._status = Status(f"placing {counted(total, 'order')}", console=console)

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, counts: Mapping[str, int], placed: int) -> None:
        """Show the number of runs by status and the number of orders placed."""
        statuses = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()) if number)
        self._status.update(f"{placed} of {self._total} placed: {statuses}")


def _print(played: Played, look: str) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    table = Table("kind of order", "orders", "must end", "ended", title="How the orders ended", title_justify="left")
    for ending in played.endings:
        ended = ", ".join(f"{number} {status}" for status, number in ending.ended.items())
        table.add_row(
            ending.kind, str(ending.orders), ending.expected, ended, style="" if ending.as_expected else "red"
        )
    console.print(table)
    if played.timeline:
        rows = Table("after", "what happened", "by", title=f"One that was undone: {played.shown}", title_justify="left")
        for row in played.timeline:
            rows.add_row(f"{row.at_ms / 1000:.3f} s", row.text, row.type)
        console.print(rows)
    result = played.result
    console.print(
        f"{result.orders} orders: {result.completed} completed, {result.compensated} compensated, "
        f"{result.stuck} stuck, {result.dead_letters} dead letters; {result.orders_per_s} orders/s, "
        f"p50 {result.p50_ms} ms, p99 {result.p99_ms} ms while all were placed at once."
    )
    for violation in played.violations:
        console.print(f"[red]does not add up:[/red] {violation}")
    if result.audit_ok:
        console.print("[green]Money and stock add up.[/green]")
    if look:
        console.print(f"Look closer: {look} choreo show {played.shown or 'o-0000'}", soft_wrap=True)
    else:
        console.print("The demo's topics and keys were deleted; --keep leaves them there.")
