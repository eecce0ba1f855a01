"""Lists take turns, and between two of them there is time for the work."""

import asyncio

import pytest

from choreo.app.pace import Pace
from choreo.testing.clock import VirtualClock


async def listing(pace: Pace, order: list[str], name: str) -> None:
    """Read a list in several turns of the loop."""
    async with pace.slot():
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")


async def test_lists_take_turns_and_leave_the_loop_to_others_between() -> None:
    """Others run while the next list waits; no list is forgotten."""
    pace, order = Pace(VirtualClock()), list[str]()
    await asyncio.gather(*(listing(pace, order, name) for name in "abc"))
    assert order == [f"{name} {part}" for name in "abc" for part in ("begins", "ends")]


async def test_a_list_that_is_alone_waits_for_nothing() -> None:
    """Its next turn is there at once."""
    pace, order = Pace(VirtualClock()), list[str]()
    for name in "ab":
        async with asyncio.timeout(0):
            async with pace.slot():
                order.append(name)
    assert order == ["a", "b"]


async def test_one_that_fails_or_is_cancelled_gives_its_turn_on() -> None:
    """Whether it had it or waited for it."""
    pace, order = Pace(VirtualClock()), list[str]()

    async def failing() -> None:
        async with pace.slot():
            waiting = asyncio.create_task(listing(pace, order, "cancelled"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
            message = "broken"
            raise ValueError(message)

    with pytest.raises(ValueError, match="broken"):
        await failing()
    await listing(pace, order, "next")
    assert order == ["next begins", "next ends"]


async def test_as_many_as_are_allowed_list_at_once() -> None:
    """Where a list waits for a server the loop has room for a few."""
    pace, order = Pace(VirtualClock(), at_once=2), list[str]()
    await asyncio.gather(*(listing(pace, order, name) for name in "abc"))
    assert order[:2] == ["a begins", "b begins"]
    assert "c begins" not in order[:3]
