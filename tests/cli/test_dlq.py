"""`choreo dlq`."""

from __future__ import annotations

from typing import Any

import pytest

from choreo.cli.failures import PROBLEM
from choreo.core import facts
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter


@pytest.fixture
def dead_letters(desk: Any) -> Any:
    """Return two dead letters: one of an open run, one of a run that is over."""
    for key in ("t-1", "t-2"):
        desk.opened(key)
    desk("terminate", "t-2", "--reason", "over")
    desk.fold()

    async def work(app: Any) -> None:
        for key in ("t-1", "t-2"):
            (start, *_) = await app.backend.read_model.history("desk", key)
            await app.backend.dead_letters.add([dead_letter(start)])

    desk.within(work)
    return desk


def dead_letter(record: Record) -> DeadLetter:
    """Return the start of a ticket, which its step could not take."""
    return DeadLetter(
        id=f"letter-{record.event.key}",
        topic="desk",
        partition=record.partition,
        offset=record.offset,
        service="seats",
        step="seats.take",
        cause="priority: not a number",
        set_aside_ms=record.stamp_ms,
        record=record,
    )


def test_letters_are_listed_with_their_cause(dead_letters: Any) -> None:
    """Enough to see the mistake, and the id for the next command."""
    assert "priority: not a number" in dead_letters("dlq", "list").out
    items = dead_letters("dlq", "list", "desk", "-o", "json").json["items"]
    assert {item["id"] for item in items} == {"letter-t-1", "letter-t-2"}
    assert {item["step"] for item in items} == {"seats.take"}


def test_a_letter_is_shown_with_its_record(dead_letters: Any) -> None:
    """Headers and value, as they came."""
    shown = dead_letters("dlq", "show", "letter-t-1", "-o", "json").json
    assert shown["headers"]["ce_type"] == "TicketOpened"
    assert shown["data_base64"]
    assert "ce_type" in dead_letters("dlq", "show", "letter-t-1").out


def test_a_letter_is_given_back_to_its_step(dead_letters: Any) -> None:
    """As a fact in the log, under the old event's id."""
    (receipt,) = dead_letters("dlq", "redrive", "letter-t-1", "-o", "json").json["redriven"]
    assert receipt["type"] == facts.REDRIVEN
    (event,) = dead_letters("tail", "--from", "start", "--no-follow", "--type", facts.REDRIVEN, "-o", "json").lines
    assert event["step"] == "seats.take"


def test_all_gives_back_what_it_can_and_says_what_it_cannot(dead_letters: Any) -> None:
    """One that is refused does not keep the others; the exit code says that there was one."""
    answer = dead_letters("dlq", "redrive", "--all", "-o", "json")
    assert answer.code == PROBLEM
    assert [receipt["key"] for receipt in answer.json["redriven"]] == ["t-1"]
    assert [refusal["id"] for refusal in answer.json["refused"]] == ["letter-t-2"]
    assert dead_letters("dlq", "redrive", "--all", "-o", "json").json["redriven"] == []


def test_a_value_of_any_bytes_is_shown(desk: Any) -> None:
    """A dead letter may hold any bytes."""
    record = Record("desk", 0, 0, 1, Envelope("x", "TicketOpened", "t-1", "desk", data=b"\xff\x00\x1b[31m"))
    desk.within(lambda app: app.backend.dead_letters.add([dead_letter(record)]))
    shown = desk("dlq", "show", "letter-t-1")
    assert shown.code == 0
    assert "\x1b" not in shown.out


def test_a_group_is_redriven_as_a_batch(dead_letters: Any) -> None:
    """A dry run writes nothing; the batch redrives those that fit, and names the others."""
    (group,) = dead_letters("dlq", "groups", "-o", "json").json["items"]
    assert (group["count"], group["step"]) == (2, "seats.take")
    assert group["id"] in dead_letters("dlq", "groups").out
    for choice in (("--group", group["id"]), ("--all",)):
        dry = dead_letters("dlq", "redrive", *choice, "--dry-run").out
        assert "2 items" in dry or "1 item" in dry
        assert "its run is terminated" in dry
    done = dead_letters("dlq", "redrive", "--group", group["id"], "--rate", "200/s", "-o", "json").json
    assert (done["state"], done["done"], done["refused"]) == ("done", 1, 0)
    (listed,) = dead_letters("batch", "list", "-o", "json").json["items"]
    assert listed["id"] == done["id"]
    assert "done: 1 of 1 done" in dead_letters("batch", "show", done["id"]).out
    assert dead_letters("batch", "stop", done["id"]).code != 0
    assert dead_letters("batch", "resume", done["id"]).code == 0
    assert dead_letters("dlq", "redrive", "letter-t-1", "--group", group["id"]).code != 0
    assert dead_letters("dlq", "redrive", "--all", "--rate", "fast").code != 0
