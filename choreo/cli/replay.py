"""`choreo replay`: fold recorded histories again with the present code and flow, and show an instance at a position.

It reads this installation or an exported file, and writes nothing but the file of `--export`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from choreo.adapters.recording import Head, RecordingFile, export
from choreo.app.query.installation import Installation
from choreo.app.query.past import Between, Past, Pasts
from choreo.app.query.replay import Difference, Replay
from choreo.app.query.status_text import moment
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, line, plain, table, write
from choreo.cli.project import FlowOption, RunOption, chosen, in_app
from choreo.cli.show import header, timeline_table
from choreo.core.errors import ChoreoError, SettingsError
from choreo.core.events import Envelope
from choreo.core.wording import counted
from choreo.ports.recording import Recording
from choreo.surfaces.json_format import instance_of, timeline_of
from choreo.wiring import App
from choreo.wiring.hosting import attributes_reader, fields_reader

T = TypeVar("T")

_LISTED_MAX = 1_000
"""Differences that a table lists; with -o json all of them are printed."""

Key = Annotated[str, typer.Argument(help="The instance's business key; without it every instance of the flow.")]
At = Annotated[str, typer.Option("--at", help="Show the instance at this offset, position (order/3/42) or time.")]
From = Annotated[str, typer.Option("--from", help="Show what changed from this position to --at, or to the end.")]
LogFile = Annotated[Path | None, typer.Option("--log", help="Read this exported file in place of the installation.")]
ExportTo = Annotated[Path | None, typer.Option("--export", help="Write the recording to this file, and stop.")]


def replay(
    key: Key = "",
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    at: At = "",
    begin: From = "",
    log: LogFile = None,
    export_to: ExportTo = None,
    output: Output = Format.TABLE,
) -> None:
    """Fold the log again with the present code and flow, and list every difference; exit with 1 if there is one.

    Compared are the shown instances, each at the offset at which it is true, and the decisions in the log. Changes
    nothing. With --at or --from it shows one instance as it was.
    """
    if (at or begin) and not key:
        raise SettingsError("a position belongs to an instance", where="--at", remedy="Name its key.")
    if export_to is not None:
        if log is not None or at or begin:
            raise SettingsError(
                "--export writes the installation's recording", where="--export", remedy="Use it alone."
            )
        path = export_to
        in_app(lambda app: _export(app, flow, key, path, output))
    elif begin:
        between = _reading(log, lambda app, source: _between(app, source, flow, key, run, begin, at))
        _show_between(between, output)
    elif at:
        past = _reading(log, lambda app, source: _at(app, source, flow, key, run, at))
        _show_past(past, output)
    elif _reading(log, lambda app, source: _compare(app, source, flow, key, output)):
        raise typer.Exit(PROBLEM)


def _reading(log: Path | None, work: Callable[[App, Recording], Awaitable[T]]) -> T:
    """Do the work with the file, and then without opening any storage, or with this installation."""
    if log is None:
        return in_app(lambda app: work(app, installation(app)))
    with closing(RecordingFile(log)) as file:
        return in_app(lambda app: work(app, file), memory=True)


def installation(app: App) -> Installation:
    """Return the installation of the project's settings as a recording."""
    backend = app.backend
    return Installation(backend.log, backend.read_model, backend.dead_letters, app.clock, backend.place)


def _flow(app: App, recording: Recording, flow: str) -> str:
    """Return the flow: the given one, that of the file, or the only one."""
    recorded = recording.head.flow if isinstance(recording, RecordingFile) else ""
    return chosen(app.flows, flow or recorded)


def _pasts(app: App, recording: Recording, name: str) -> Pasts:
    flow = app.flows[name]
    return Pasts(app.queries.flows, recording, app.codec, attributes_reader(app, flow), fields_reader(app, flow))


async def _at(app: App, recording: Recording, flow: str, key: str, run: str, at: str) -> Past:
    name = _flow(app, recording, flow)
    pasts = _pasts(app, recording, name)
    return await pasts.at(name, key, await pasts.until(at, name, key), run)


async def _between(app: App, recording: Recording, flow: str, key: str, run: str, begin: str, end: str) -> Between:
    name = _flow(app, recording, flow)
    pasts = _pasts(app, recording, name)
    first, last = await pasts.until(begin, name, key), await pasts.until(end, name, key)
    return await pasts.between(name, key, first, last, run)


def replay_of(app: App, recording: Recording, name: str) -> Replay:
    """Return the replay of one flow with the project's code."""
    flow = app.flows[name]
    return Replay(app.queries.flows.table(name), recording, attributes_reader(app, flow), fields_reader(app, flow))


async def _compare(app: App, recording: Recording, name: str, key: str, output: Format) -> bool:
    """Print the differences; return whether there is one."""
    name = _flow(app, recording, name)
    again = replay_of(app, recording, name)
    found: list[Difference] = []
    number = 0
    async for difference in again.differences(key):
        number += 1
        if output is Format.JSON:
            line({"difference": difference})
        elif number <= _LISTED_MAX:
            found.append(difference)
    if output is Format.JSON:
        counts = {"records": again.records, "runs": again.runs, "truncated": again.truncated, "differences": number}
        line({"flow": name, "ok": not number, **counts})
        return number > 0
    if found:
        table(
            ("instance", "offset", "about", "recorded", "replayed"),
            [(each.key, each.offset, each.about, each.recorded, each.replayed) for each in found],
        )
        write(f"  and {number - len(found):,} more" if number > len(found) else "")
    records, runs = counted(again.records, "record"), counted(again.runs, "run")
    write(plain(f"flow {name}: {records} folded again, {runs} compared: {counted(number, 'difference')}"))
    if again.truncated:
        write(f"not compared: {counted(again.truncated, 'run')} whose start is not in the recording")
    return number > 0


async def _export(app: App, flow: str, key: str, path: Path, output: Format) -> None:
    name = chosen(app.flows, flow)
    recording, classes = installation(app), app.flows[name].event_classes

    def fields_of(event: Envelope) -> Mapping[str, Any] | None:
        if not event.data or event.type not in classes or event.content_type.startswith("application/json"):
            return None
        try:
            return app.codec.fields(classes[event.type], event.content_type, event.data)
        except ChoreoError:
            return None  # its bytes are exported as they are: replay tells that they cannot be read

    head = Head(
        recording=1,
        flow=name,
        version=app.definitions[name].version,
        partitions=await recording.partitions(name),
        positions=await recording.positions(name),
        keys=[key] if key else [],
        as_of_ms=recording.as_of_ms,
    )
    try:
        written = await export(recording, head, path, fields_of)
    except OSError as error:
        raise SettingsError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Free disk space, or name another file."
        ) from error
    if output is Format.JSON:
        document({"file": str(path), "flow": name, "records": written.records, "runs": written.views})
        return
    write(plain(f"wrote {path}: {counted(written.records, 'record')}, {counted(written.views, 'run')}"))


def _show_past(past: Past, output: Format) -> None:
    if output is Format.JSON:
        document(_plain(past))
        return
    write(plain(f"at offset {past.offset}, {moment(past.stamp_ms)}"))
    header(past.instance)
    write("")
    timeline_table(past.timeline)


def _plain(past: Past) -> dict[str, Any]:
    timeline = timeline_of(past.timeline).model_dump()["items"]
    place = {"offset": past.offset, "stamp": moment(past.stamp_ms)}
    return {"at": place, **instance_of(past.instance).model_dump(), "timeline": timeline}


def _show_between(between: Between, output: Format) -> None:
    before, after = between.before, between.after
    if output is Format.JSON:
        places = {"from": before.offset if before else None, "to": after.offset}
        changed = {each.field: {"from": each.before, "to": each.after} for each in between.changed}
        events = timeline_of(between.events).model_dump()["items"]
        run = after.instance.row
        document({"flow": run.flow, "key": run.key, "run": run.run, **places, "changed": changed, "events": events})
        return
    begin = f"offset {before.offset}, {moment(before.stamp_ms)}" if before else "before its start"
    write(plain(f"from {begin} to offset {after.offset}, {moment(after.stamp_ms)}"))
    table(("field", "before", "after"), between.changed)
    write("")
    timeline_table(between.events)
