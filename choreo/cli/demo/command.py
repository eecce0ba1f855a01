"""`choreo demo`: run five hundred orders and sixty trips of every kind, wait until the last has ended, audit them."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal, Self

import typer

from choreo.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console

    from choreo.cli.demo.plan import Demo
    from choreo.cli.demo.results import FlowPlayed, Played

DEMO_FOLDER = Path(".choreo/demo")
"""Made new at every run; the files of a run stay until the next one."""


def demo(
    orders: Annotated[int, typer.Option(help="How many orders to place.", min=1, max=100_000)] = 500,
    trips: Annotated[int, typer.Option(help="How many runs of each further flow.", min=1, max=100_000)] = 60,
    flow: Annotated[str, typer.Option(metavar="NAME", help="Only this flow: order or trip.")] = "",
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Run it on this Kafka, in topics of its own.")] = "",
    redis: Annotated[str, typer.Option(metavar="URL", help="The Redis that goes with it.")] = "",
    postgres: Annotated[str, typer.Option(metavar="URL", help="Or the PostgreSQL that goes with it.")] = "",
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's topics and keys for a closer look.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="table or json")] = "table",
) -> None:
    """Place orders and book trips, let some fail, wait until each failed one is undone, and audit the books.

    Exits with 1 if anything does not add up.
    """
    from choreo import settings as settings_module  # noqa: PLC0415 - `choreo --help` must answer at once
    from choreo.app.failures import LOGGER  # noqa: PLC0415
    from choreo.cli.demo import plan, play  # noqa: PLC0415

    logging.getLogger(LOGGER).setLevel(logging.ERROR)  # its handlers fail on purpose, a hundred times
    demos = plan.load_demos(settings_module.load())
    counts = [(demo, orders if demo is demos[0] else trips) for demo in plan.chosen(demos, flow)]
    held = _made_new(DEMO_FOLDER)
    look = f"CHOREO_DATABASE={DEMO_FOLDER}/choreo.db"
    if kafka:
        # A cluster may hold topics of these flows already, with keys of the same names.
        prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] = f"demo-{uuid.uuid4().hex[:8]}."
        stores = f"CHOREO_POSTGRES={redact(postgres)}" if postgres else f"CHOREO_REDIS={redis}"
        look = f"CHOREO_KAFKA={kafka} {stores} CHOREO_KAFKA_TOPIC_PREFIX={prefix}" if keep else ""
    settings = settings_module.load(
        flows=[name for demo, _ in counts for name in demo.flows],
        database=DEMO_FOLDER / "choreo.db",
        data=DEMO_FOLDER / "tracker",
        kafka=kafka,
        redis=redis,
        postgres=postgres,
        time_scale=demos[0].time_scale,
    )
    with _Progress(counts, quiet=output == "json") as progress:
        played = asyncio.run(play.play(settings, counts, DEMO_FOLDER, progress.show, keep=keep))
    held.close()
    if output == "json":
        import msgspec  # noqa: PLC0415

        typer.echo(msgspec.json.encode(played.result).decode())
        for violation in played.violations:
            typer.echo(violation, err=True)
    else:
        _print(played, look)
    raise typer.Exit(1 if played.violations else 0)


def _made_new(folder: Path) -> IO[str]:
    """Make the folder new; return a file that holds it until it is closed. Raises SettingsError while another does."""
    import fcntl  # noqa: PLC0415 - `choreo --help` must answer everywhere

    from choreo.core.errors import SettingsError  # noqa: PLC0415

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise SettingsError(
            "another demo runs in this folder",
            where=str(folder.resolve()),
            remedy="Wait until it has ended, or run this one in another working directory.",
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return lock


class _Progress:
    """A progress line on standard error; silent where stderr is no terminal."""

    def __init__(self, counts: Sequence[tuple[Demo, int]], *, quiet: bool) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.status import Status  # noqa: PLC0415

        self._totals = {demo.flow: count for demo, count in counts}
        console = Console(stderr=True, quiet=quiet or not sys.stderr.isatty())
        self._status = Status(f"starting {', '.join(self._totals)}", console=console)

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, flow: str, counts: Mapping[str, int], placed: int) -> None:
        """Show the number of runs of a flow by status and the number of those that were started."""
        statuses = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()) if number)
        self._status.update(f"{flow}: {placed} of {self._totals[flow]} started: {statuses}")


def _print(played: Played, look: str) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    _print_endings(console, played)
    shown = next((one for one in played.flows if one.timeline), None)
    if shown:
        _print_timeline(console, shown)
    for one in played.flows:
        _print_figures(console, one)
    for one in played.flows:
        for violation in one.violations:
            console.print(f"[red]does not add up:[/red] {violation}")
        if one.result.audit_ok:
            console.print(f"[green]{one.books} add up.[/green]")
    if look:
        one = shown or played.flows[0]
        console.print(f"Look closer: {look} choreo show {one.shown} --flow {one.flow}", soft_wrap=True)
    else:
        console.print("The demo's topics and keys were deleted; --keep leaves them there.")


def _print_endings(console: Console, played: Played) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table("flow", "kind", "runs", "must end", "ended", title="How each run ended", title_justify="left")
    for one in played.flows:
        for place, ending in enumerate(one.endings):
            ended = ", ".join(f"{number} {status}" for status, number in ending.ended.items())
            last = place == len(one.endings) - 1
            table.add_row(
                "" if place else one.flow,
                ending.kind,
                str(ending.orders),
                ending.expected,
                ended,
                style="" if ending.as_expected else "red",
                end_section=last,
            )
    console.print(table)


def _print_timeline(console: Console, shown: FlowPlayed) -> None:
    from rich.table import Table  # noqa: PLC0415

    rows = Table("after", "what happened", "by", title=f"One that was undone: {shown.shown}", title_justify="left")
    for row in shown.timeline:
        rows.add_row(f"{row.at_ms / 1000:.3f} s", row.text, row.type)
    console.print(rows)


def _print_figures(console: Console, one: FlowPlayed) -> None:
    result = one.result
    several = [f"{number} {outcome}" for outcome, number in result.outcomes.items() if outcome != "compensated"]
    completed = f"{result.completed} completed"
    if len(several) > 1:
        completed += f" ({', '.join(several)})"
    console.print(
        f"{result.placed} {one.unit}s: {completed}, {result.compensated} compensated, "
        f"{result.stuck} stuck, {result.dead_letters} dead letters; {result.per_s} {one.unit}s/s, "
        f"p50 {result.p50_ms} ms, p99 {result.p99_ms} ms while all were placed at once."
    )
    for flow, counts in result.children.items():
        ended = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        console.print(f"{flow}, children of {one.flow}: {ended}.")
