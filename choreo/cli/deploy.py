"""`choreo deploy`: the runs in flight by version of their flow, and whether this project can let them go on."""

from __future__ import annotations

from typing import Annotated

import typer

from choreo.app.query.deployment import VersionInFlight, changed_runs, versions_in_flight
from choreo.app.query.replay import Difference
from choreo.cli.deferred import group
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, table, write
from choreo.cli.project import chosen_or_all, flow_names, in_app, reached_end
from choreo.cli.replay import installation, replay_of
from choreo.core.errors import UnavailableError
from choreo.core.wording import counted
from choreo.wiring import App

cli: typer.Typer = group("Check that a deployment strands no run, and show versions in flight.")

AlsoReplay = Annotated[
    bool, typer.Option("--replay", help="Fold the whole log again, and refuse a change in the state of an open run.")
]
Flow = Annotated[str, typer.Argument(help="The flow; without it every flow.", autocompletion=flow_names)]


@cli.command("check")
def check(flow: Flow = "", *, replay: AlsoReplay = False, output: Output = Format.TABLE) -> None:
    """Check that this project, once deployed, can let every open run go on; exit with 1 and the list if not.

    Each reason has a code that `choreo check --explain CODE` explains. Run it with the new code and the settings of the
    installation. A version in flight needs its frozen file, and for
    each of its steps one that serves it. Fails where the read model is behind the log, because then nothing is known.
    Writes nothing.
    """
    found, changed = in_app(lambda app: _judged(app, flow, replay=replay))
    stranded = [one for one in found if one.stranded]
    if output is Format.JSON:
        listed = [
            {"flow": one.flow, "version": one.version, "code": each.code, "what": each.what, "remedy": each.remedy}
            for one in stranded
            for each in one.findings
        ]
        versions = [_plain(one) for one in found]
        document({"ok": not (stranded or changed), "versions": versions, "findings": listed, "changed": changed})
    elif stranded:
        rows = [
            (each.code, one.flow, one.version, one.open, ", ".join(one.keys), each.what)
            for one in stranded
            for each in one.findings
        ]
        table(("code", "flow", "version", "open", "such as", "why they could not go on"), rows)
        write("Keep the steps of a version until it is drained (versions=), and its frozen file.")
    elif not changed:
        runs = counted(sum(one.open for one in found), "open run")
        write(plain(f"{runs} can go on after this deployment."))
    if changed and output is Format.TABLE:
        table(
            ("instance", "offset", "about", "is", "would be"),
            [(each.key, each.offset, each.about, each.recorded, each.replayed) for each in changed],
        )
        write("Declare the flow as it was for these runs: raise version= and keep the steps of the old one.")
    if stranded or changed:
        raise typer.Exit(PROBLEM)


@cli.command("status")
def status(flow: Flow = "", *, output: Output = Format.TABLE) -> None:
    """Show each version of a flow with its open runs by build; one without any needs its steps or hosts no more."""
    found = in_app(lambda app: _found(app, flow, must_know=False))
    if output is Format.JSON:
        document({"versions": [_plain(one) for one in found]})
        return
    rows = [(one.flow, one.version, one.state, one.open, _builds(one), ", ".join(one.keys)) for one in found]
    table(("flow", "version", "state", "open", "of build", "such as"), rows)


async def _judged(app: App, flow: str, *, replay: bool) -> tuple[list[VersionInFlight], list[Difference]]:
    """Return the versions with the reasons of those that are stranded; with `replay` the changes of open runs, too."""
    found, changed = await _found(app, flow, must_know=True), list[Difference]()
    for name in chosen_or_all(app.flows, flow) if replay else ():
        recording = installation(app)
        changed += await changed_runs(replay_of(app, recording, name), recording, name)
    return found, changed


async def _found(app: App, flow: str, *, must_know: bool) -> list[VersionInFlight]:
    found = []
    for name in chosen_or_all(app.flows, flow):
        if must_know:
            await _caught_up(app, name)
        found += await versions_in_flight(app.queries, name, app.flows[name].steps)
    return found


async def _caught_up(app: App, flow: str) -> None:
    """Wait until the views show the log as it is now; raises UnavailableError: a check of old views is none."""
    for number in range(await app.backend.log.partitions(flow)):
        try:
            await reached_end(app, flow, number)
        except UnavailableError as error:
            raise UnavailableError(
                "the read model is behind the log, so that runs in flight are not known",
                where=f"flow {flow}, partition {number}",
                remedy="Let the tracker or projector of the running installation catch up, then check again.",
            ) from error


def _builds(one: VersionInFlight) -> str:
    """Return the builds of the open runs, with their numbers."""
    return ", ".join(f"{build or 'none'} ({runs})" for build, runs in sorted(one.builds.items()))


def _plain(one: VersionInFlight) -> dict[str, object]:
    return {
        "flow": one.flow,
        "version": one.version,
        "state": one.state,
        "open": one.open,
        "builds": one.builds,
        "keys": one.keys,
        "stranded": one.stranded,
    }
