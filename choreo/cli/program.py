"""The commands there are, in one table, and how a call ends: its exit code, and what a failure says.

Knows names and sentences; what a command does stands in its own module.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from choreo.cli.deferred import Deferred, Sections
from choreo.cli.failures import EXIT_CODES, INTERRUPTED, OURS, exit_code_of, tell
from choreo.cli.log import without_secrets
from choreo.cli.output import ClosedPipeError, flush, let_go
from choreo.core.errors import DISTRIBUTION, SettingsError
from choreo.redaction import learn_environment, redact

# Section → command → (where it stands, what it does). The order is that of `choreo --help`.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "new": ("choreo.cli.new:new", "Make a project that runs at once."),
        "demo": ("choreo.cli.demo:demo", "Run 500 orders of every kind and audit money and stock."),
        "dev": ("choreo.cli.dev:dev", "Run everything in one process, with the REST view."),
    },
    "Run": {
        "run": ("choreo.cli.run:run", "Run one service, the tracker or the REST view."),
        "publish": ("choreo.cli.publish:publish", "Start an instance, or publish an event from outside."),
    },
    "Look": {
        "list": ("choreo.cli.list:list_", "List instances, newest first."),
        "show": ("choreo.cli.show:show", "Show one instance: what happened, and what it waits for."),
        "tail": ("choreo.cli.tail:tail", "Print events as they come."),
        "dlq": ("choreo.cli.dlq:cli", "List, show and redrive dead letters."),
    },
    "Operate": {
        "pause": ("choreo.cli.operate:pause", "Start no further step of an instance until it is resumed."),
        "resume": ("choreo.cli.operate:resume", "Let a paused instance go on."),
        "cancel": ("choreo.cli.operate:cancel", "Turn an instance: all it has done is undone."),
        "terminate": ("choreo.cli.operate:terminate", "End an instance as it is; nothing is undone."),
        "undo": ("choreo.cli.undo:cli", "Retry or resolve an undo that failed."),
        "projections": ("choreo.cli.projections:cli", "Rebuild states and read model from the log."),
    },
    "Declare": {
        "check": ("choreo.cli.check:check", "Check flows, topics and schemas."),
        "schemas": ("choreo.cli.schemas:cli", "Freeze, check and list the contract of the events."),
        "topics": ("choreo.cli.topics:cli", "Hold the topics on Kafka to what topics/*.yaml says."),
        "flow": ("choreo.cli.flow:cli", "Export a flow as JSON, or draw it as Mermaid."),
    },
}

_LONG_RUNNING = (["run"], ["dev"])
"""A fault of choreo's own that ended one of these may not come again: its traceback is printed at once."""

_HELP = "Flows as choreography: declared by their steps, checked before they run, watched and undone."


def main() -> None:
    """The entry point: run the command line's arguments, then exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and answer its exit code; a failure is told on stderr, with a traceback only under --debug."""
    learn_environment(os.environ)
    without_secrets()
    debug = "--debug" in arguments
    given = [argument for argument in arguments if argument != "--debug"]
    try:
        _require_text(arguments)
        answer = command().main(given or ["--help"], prog_name="choreo", standalone_mode=False)
        flush()
    except (ClosedPipeError, BrokenPipeError):
        return let_go()
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - where a failure becomes a sentence and an exit code, whatever it is
        if debug or (given[:1] in _LONG_RUNNING and exit_code_of(error) == OURS):
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        tell(error)
        return exit_code_of(error)
    return answer if isinstance(answer, int) else 0


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no text in this system's encoding: nothing here could name, store or show them."""
    variables = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("CHOREO_")]
    for text in (*arguments, *variables):
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
            raise SettingsError(
                f"{text!r:.200} holds bytes that are no text",
                where="arguments or environment",
                remedy="Give it in UTF-8.",
            )


def command() -> Sections:
    """The whole command line as one group; no command's module is imported yet."""
    codes = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    app = typer.Typer(help=_HELP, epilog=f"Exit codes: {codes}.", rich_markup_mode=None, cls=Sections)
    app.callback()(_root)
    group = get_command(app)
    if not isinstance(group, Sections):
        raise TypeError(f"typer made a {type(group).__name__} of the root callback")
    for section, commands in COMMANDS.items():
        group.sections[section] = list(commands)
        for name, (target, says) in commands.items():
            group.add_command(Deferred(name, target, says), name)
    return group


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        from importlib import metadata  # noqa: PLC0415 - 20 ms that only --version needs

        try:
            known = metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            known = "from a source tree that is not installed"
        typer.echo(f"choreo {known}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure; may stand anywhere.")
    ] = False,
) -> None:
    """Take what holds for every command."""
