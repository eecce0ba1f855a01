"""The table of commands, and the end of a call: its exit code and its error message.

Knows names and sentences; the work of a command stands in its own module.
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
from choreo.cli.failures import EXIT_CODES, INTERRUPTED, OURS, exit_code_of, report
from choreo.cli.log import without_secrets
from choreo.cli.output import ClosedPipeError, flush, let_go
from choreo.core.errors import DISTRIBUTION, SettingsError
from choreo.redaction import learn_environment, redact

# Section → command → (module and function, line of help). The order is that of `choreo --help`.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "new": ("choreo.cli.new:new", "Make a project that runs at once."),
        "demo": ("choreo.cli.demo.command:demo", "Run 500 orders of every kind and audit money and stock."),
        "dev": ("choreo.cli.dev:dev", "Run everything in one process, with the REST view."),
    },
    "Run": {
        "run": ("choreo.cli.run:run", "Run one service, the tracker or the REST view."),
        "publish": ("choreo.cli.publish:publish", "Start an instance, or publish an event from outside."),
    },
    "Look": {
        "list": ("choreo.cli.list:list_", "List instances, newest first."),
        "show": ("choreo.cli.show:show", "Show one instance: its timeline and its waits."),
        "why": ("choreo.cli.why:why", "Say why an instance stands still, and which command helps."),
        "stalled": ("choreo.cli.stalled:stalled", "List instances that stand longer in a step than usual."),
        "timers": ("choreo.cli.stalled:timers", "List instances by their next due time."),
        "events": ("choreo.cli.events:events", "List event types: declared and seen producers, schemas, drift."),
        "groups": ("choreo.cli.groups:groups", "List consumer groups: owners, lag, and how long it will take."),
        "replay": ("choreo.cli.replay:replay", "Fold the log again with the present code; show an instance's past."),
        "tail": ("choreo.cli.tail:tail", "Print events as they come."),
        "dlq": ("choreo.cli.dlq:cli", "List, show and redrive dead letters."),
        "audit": ("choreo.cli.audit:audit", "List the actions of operators: author, reason, time."),
    },
    "Operate": {
        "pause": ("choreo.cli.operate:pause", "Start no further step of an instance until it is resumed."),
        "resume": ("choreo.cli.operate:resume", "Let a paused instance go on."),
        "cancel": ("choreo.cli.operate:cancel", "Compensate an instance: all it has done is undone."),
        "terminate": ("choreo.cli.operate:terminate", "End an instance as it is; nothing is undone."),
        "undo": ("choreo.cli.undo:cli", "Retry or resolve an undo that failed."),
        "batch": ("choreo.cli.batch:cli", "Do one action on many instances, at a rate."),
        "deploy": ("choreo.cli.deploy:cli", "Check that a deployment strands no run; show versions in flight."),
        "keys": ("choreo.cli.keys:cli", "Make, list and revoke API keys of the REST view."),
        "projections": ("choreo.cli.projections:cli", "Rebuild states and read model from the log."),
    },
    "Declare": {
        "check": ("choreo.cli.check.command:check", "Check flows, topics and schemas."),
        "verify": ("choreo.cli.verify:verify", "Explore every state that a flow can reach, under every fault."),
        "simulate": ("choreo.cli.simulate:simulate", "Run the services under seeded faults, in virtual time."),
        "faultmatrix": (
            "choreo.cli.faultmatrix.command:faultmatrix",
            "Let every fault meet every step, in virtual time.",
        ),
        "schemas": ("choreo.cli.schemas:cli", "Freeze, check and list the contract of the events."),
        "topics": ("choreo.cli.topics:cli", "Keep the topics on Kafka equal to topics/*.yaml."),
        "flow": ("choreo.cli.flow:cli", "Export a flow as JSON, draw or describe it, or freeze its version."),
    },
}

_LONG_RUNNING = (["run"], ["dev"])
"""Commands that run long: an internal error that ends one may not come again, so its traceback is printed at once."""

_HELP = "Flows as choreography: declared by their steps, checked before they run, watched and undone."


def main() -> None:
    """Run the command line's arguments, then exit: the entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; a failure is printed on stderr, with a traceback only under --debug."""
    learn_environment(os.environ)
    without_secrets()
    debug = "--debug" in arguments
    rest = [argument for argument in arguments if argument != "--debug"]
    try:
        _require_text(arguments)
        answer = command().main(rest or ["--help"], prog_name="choreo", standalone_mode=False)
        flush()
    except (ClosedPipeError, BrokenPipeError):
        return let_go()
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - any failure becomes a message and an exit code
        if debug or (rest[:1] in _LONG_RUNNING and exit_code_of(error) == OURS):
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        report(error)
        return exit_code_of(error)
    return answer if isinstance(answer, int) else 0


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no text in this system's encoding: choreo could not name, store or show them."""
    variables = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("CHOREO_")]
    for text in (*arguments, *variables):
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
            raise SettingsError(
                f"{text!r:.200} holds bytes that are no text",
                where="arguments or environment",
                remedy="Give it in UTF-8.",
            )


def command() -> Sections:
    """Return the whole command line as one group; no command's module is imported yet."""
    codes = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    app = typer.Typer(help=_HELP, epilog=f"Exit codes: {codes}.", rich_markup_mode=None, cls=Sections)
    app.callback()(_root)
    group = get_command(app)
    if not isinstance(group, Sections):
        raise TypeError(f"typer made a {type(group).__name__} of the root callback")
    for section, commands in COMMANDS.items():
        group.sections[section] = list(commands)
        for name, (target, help_text) in commands.items():
            group.add_command(Deferred(name, target, help_text), name)
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
    """Take the options that hold for every command."""
