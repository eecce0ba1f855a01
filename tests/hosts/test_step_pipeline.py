"""The stages of the step host: each keeps its own fields, and attempts go on when storage fails."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from choreo import StepContext
from choreo.hosts.step import host
from choreo.hosts.step.host import StepHost
from choreo.ports.inbox import AttemptRequest
from tests.hosts.harness import Placed, charged, payment, running_harness

STAGES = sorted(Path(inspect.getfile(host)).parent.glob("*.py"))
ATTRIBUTES_MAX = 10


def targets(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield everything that is assigned to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            yield node.target


def is_own(target: ast.expr) -> bool:
    """Return whether this is a field of `self`."""
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.name)
def test_no_stage_changes_a_field_of_another(path: Path) -> None:
    """It asks the other stage by a method; only jobs, which pass through all of them, have fields for each."""
    foreign = [
        ast.unparse(target)
        for target in targets(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(target, ast.Attribute) and is_own(target.value)
    ]
    assert foreign == []


def test_the_host_itself_has_few_attributes() -> None:
    """The stages have the others."""
    (cls,) = ast.parse(inspect.getsource(StepHost)).body
    names = {target.attr for target in targets(cls) if is_own(target) and isinstance(target, ast.Attribute)}
    assert 0 < len(names) <= ATTRIBUTES_MAX


async def test_attempts_that_were_begun_before_the_storage_failed_are_made() -> None:
    """A faulty job makes the batch be begun one by one; the inbox fails after the first of them."""
    calls: list[str] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        calls.append(event.order_id)
        return await charged(event, ctx)

    async with running_harness(payment(charge), started=False) as harness:

        def is_faulty(attempts: Sequence[AttemptRequest], *_: object) -> bool:
            return "faulty" in [attempt.trigger for attempt in attempts]

        def is_second(attempts: Sequence[AttemptRequest], *_: object) -> bool:
            return [attempt.trigger for attempt in attempts] == ["second"]

        harness.faults.fail("inbox.begin", ValueError("this cannot be"), times=None, when=is_faulty)
        away = harness.faults.fail("inbox.begin", when=is_second)
        names = {"o-1": "first", "o-2": "second", "o-3": "faulty", "o-4": "fourth"}
        await harness.publish(*(harness.event(Placed(order_id=key), id=id_, run=id_) for key, id_ in names.items()))
        harness.host()
        await harness.until(lambda: away.is_over and calls == ["o-1"])  # before the clock moves on
        while len(calls) < 3:
            await harness.clock.advance(0.1)
        assert {event.key for event in await harness.published("Charged", 3)} == {"o-1", "o-2", "o-4"}
        assert [dead_letter.record.event.id for dead_letter in await harness.dead_letters()] == ["faulty"]
    assert calls == ["o-1", "o-2", "o-4"]
