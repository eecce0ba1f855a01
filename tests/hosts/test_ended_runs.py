"""The tracker counts each run that ends once, also where it folds its own end facts in the commit that appends them."""

from __future__ import annotations

import pytest

from choreo import Event, Flow, Retry, Service, StepContext
from choreo.testing import FlowTest


class Asked(Event):
    """Something is wanted."""

    order_id: str


class Given(Event):
    """It is given."""

    order_id: str


class TakenBack(Event):
    """It is taken back."""

    order_id: str


class Forgotten(Event):
    """They have not said thanks."""

    order_id: str
    reason: str = ""


class Thanked(Event):
    """They have said thanks."""

    order_id: str


shop = Service("shop")


@shop.step(on=Asked, emits=Given, timeout="5s", retry=Retry(initial="1s", max_attempts=1))
async def give(event: Asked, ctx: StepContext) -> Given:
    """Give it."""
    return Given(order_id=event.order_id)


@give.compensate(emits=TakenBack, timeout="5s", retry=Retry(initial="1s", max_attempts=1))
async def take_back(given: Given | None, ctx: StepContext) -> TakenBack | None:
    """Take it back."""
    return TakenBack(order_id=ctx.key)


gift = Flow("gift", key="order_id", starts=Asked, completes=Thanked, deadline="2d", services=[shop])
gift.wait(on=Given, until=Thanked, timeout="1d", fails=Forgotten)


@pytest.mark.parametrize("end", ["completed", "compensated", "terminated"])
def test_an_ended_run_is_counted_with_its_duration(end: str) -> None:
    """Started once, ended once, after an hour."""
    with FlowTest(gift) as env:
        env.publish(Asked(order_id="g-1"))
        env.skip("1h")
        if end == "completed":
            env.publish(Thanked(order_id="g-1"))
        elif end == "compensated":
            env.cancel("g-1", reason="no longer wanted")
        else:
            env.terminate("g-1", reason="settled by hand")
        env.assert_status("g-1", end)
        found = {one.name: one for one in env.measures}
    started, ended, took = (found[name] for name in ("runs_started", "runs_ended", "run_duration_seconds"))
    assert (started.labels, started.value) == ({"flow": "gift"}, 1)
    assert (ended.labels, ended.value) == ({"flow": "gift", "status": end}, 1)
    assert took.labels == {"flow": "gift", "status": end}
    assert sum(took.counts) == 1
    assert 3_600 <= took.value < 3_660


def test_passed_deadlines_and_events_without_a_run_are_counted() -> None:
    """Both numbers are there before anything has happened: an alert on their increase sees the first one."""
    with FlowTest(gift) as env:

        def counted() -> dict[tuple[str, ...], float]:
            return {(one.name, *one.labels.values()): one.value for one in env.measures}

        before = counted()
        assert (before["orphans", "gift"], before["deadlines_passed", "gift", "flow"]) == (0, 0)
        env.kill("shop.give", times=None)
        env.publish(Asked(order_id="g-2"))
        env.skip("3d")
        env.publish(Thanked(order_id="nobody"), force=True)
        after = counted()
    assert after["orphans", "gift"] == 1
    assert after["deadlines_passed", "gift", "step"] + after["deadlines_passed", "gift", "flow"] >= 1
