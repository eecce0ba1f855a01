"""`choreo dev`: run the whole project in one process, for development."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from choreo import settings
from choreo.cli.examples import publish_call
from choreo.cli.log import Level, log_to_stderr
from choreo.cli.output import Format, Output, document, flush, plain, write
from choreo.cli.running import place_of_log, run_until_stopped
from choreo.wiring import REST, App, everything


def dev(
    *,
    rest: Annotated[bool, typer.Option(help="Serve the REST view, too.")] = True,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a file of the project changes.")] = False,
    log_level: Level = "warning",
    output: Output = Format.TABLE,
) -> None:
    """Run every service, the tracker and the REST view in one process until Ctrl-C.

    With -o json it prints one document that names the running roles, just before they start.
    """
    if reload:
        from choreo.cli.reload import restart_on_change  # noqa: PLC0415 - an optional extra

        restart_on_change(
            settings.load(), ("dev", *(() if rest else ("--no-rest",)), "--log-level", log_level, "-o", output)
        )
        return
    log_to_stderr(log_level)

    def begin(app: App, roles: Sequence[str]) -> None:
        if output is Format.JSON:
            document({"runs": list(roles), "flows": list(app.flows), "rest": _address(app) if rest else ""})
        else:
            _print_roles(app, roles)
        flush()

    run_until_stopped(lambda app: everything(app, rest=rest), begin)


def _address(app: App) -> str:
    return f"http://{app.settings.host}:{app.settings.port}"


def _print_roles(app: App, roles: Sequence[str]) -> None:
    """Print the running roles and three commands to try."""
    name, definition = next(iter(app.definitions.items()))
    write(plain(f"flows     {', '.join(app.flows)}"))
    write(plain(f"running   {', '.join(roles)}"))
    write(plain(f"log       {place_of_log(app)}"))
    if REST in roles:
        address = _address(app)
        shown = f"{address}/docs, the page {address}/ui" if app.settings.port else "see the log (info)"
        write(f"REST      {shown}")
    write("")
    write("Try, in another terminal:")
    write(f"  {publish_call(name, app.queries.flows.event_class(name, definition.starts))}")
    write(f"  choreo list {name}")
    write(f"  choreo tail {name} --from start")
    write("")
    write("Ctrl-C stops.")
