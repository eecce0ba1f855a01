"""`choreo why`: the one cause for which an instance stands still, its evidence, and the next command."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from choreo.app.query.status_text import moment
from choreo.app.query.why.rules import Why
from choreo.cli.failures import PROBLEM
from choreo.cli.output import Format, Output, document, plain, write
from choreo.cli.project import CATCH_UP_S, FlowOption, KeyArgument, RunOption, chosen, in_app
from choreo.surfaces.json_format import WhyAnswer
from choreo.wiring import App

LOOK_S = 1.0


def why(
    key: KeyArgument,
    *,
    flow: FlowOption = "",
    run: RunOption = "",
    watch: Annotated[
        float, typer.Option(min=0, max=600, help="Observe the groups for so many seconds before the answer.")
    ] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Say why an instance stands still: one cause, its evidence, the next command; exit with 1 if something is wrong.

    The causes are tested in a fixed order, and the first one that holds is the answer. Changes nothing. Members that
    come and go are seen by a process that watches: the REST view always, this command with --watch.
    """

    async def ask(app: App) -> Why:
        name = chosen(app.flows, flow)
        until = time.monotonic() + watch
        while time.monotonic() < until:
            await app.queries.groups(name)
            await asyncio.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))
        return await app.queries.why(name, key, run, CATCH_UP_S)

    answer = in_app(ask)
    if output is Format.JSON:
        document(WhyAnswer.model_validate(answer).model_dump())
    else:
        _print(answer)
    if not answer.healthy:
        raise typer.Exit(PROBLEM)


def _print(answer: Why) -> None:
    lines = [(f"{answer.flow} {answer.key}", answer.status), (answer.cause, answer.sentence)]
    for each in answer.evidence:
        place = [each.position, moment(each.at_ms) if each.at_ms else ""]
        known = ", ".join(text for text in place if text)
        lines.append((each.name, f"{each.value} ({known})" if known else each.value))
    lines += [(f"also {each.cause}", each.sentence) for each in answer.also]
    lines.append(("remedy", answer.remedy))
    lines += [("next", answer.command)] if answer.command else []
    lines.append(("trace", answer.trace))
    lines.append(("true up to", f"{answer.position}, {moment(answer.as_of_ms)}"))
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        write(plain(f"{name.ljust(width)}  {text}"))
