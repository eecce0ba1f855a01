"""`choreo publish`."""

from __future__ import annotations

import json
from typing import Any

from choreo.cli.failures import CONFLICT, NOT_FOUND


def test_a_start_is_published_and_said_where(desk: Any) -> None:
    """The receipt names the run and the position, in the words of the REST view."""
    receipt = desk("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1", "-o", "json").json
    assert receipt["position"].startswith("desk/")
    assert receipt["run"] == receipt["id"]
    assert {"type", "flow", "key", "duplicate"} <= set(receipt)
    assert receipt["duplicate"] is False


def test_the_same_start_is_published_once(desk: Any) -> None:
    """A call that is repeated, for nobody saw its answer, does no harm."""
    first = desk("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1", "-o", "json").json
    second = desk("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1", "-o", "json").json
    assert second == {**first, "duplicate": True}
    assert "published before" in desk("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1").out


def test_baggage_is_given_by_name(desk: Any) -> None:
    """Values are any text; one without a name, or too large, is refused with the remedy."""
    call = ("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1", "--baggage")
    assert "'tenant' is no NAME=VALUE\n  where: --baggage\n  remedy: Give: tenant=a." in desk(*call, "tenant").err
    large = desk(*call, "tenant=" + "x" * 9_000)
    assert (large.code, "it would have 1 members and 9,007 bytes" in large.err) == (2, True)
    assert desk(*call, "tenant=a b", "--baggage", "user=jo=1").code == 0
    (event,) = desk("tail", "--from", "start", "--no-follow", "-o", "json").lines
    assert event["baggage"] == "tenant=a%20b,user=jo=1"


def test_another_idempotency_key_starts_another_run(desk: Any) -> None:
    """The start's id is derived from flow, key and idempotency key."""
    call = ("publish", "desk", "TicketOpened", "--field", "ticket_id=t-1", "-o", "json")
    assert desk(*call).json["run"] != desk(*call, "--idempotency-key", "second").json["run"]


def test_fields_are_read_as_their_class_has_them(desk: Any) -> None:
    """Text stays text, even a number; anything else is JSON."""
    lines = '[{"sku": "lamp", "quantity": 2}]'
    fields = ("--field", "ticket_id=7", "--field", "priority=3", "--field", f"lines={lines}")
    assert desk("publish", "desk", "TicketOpened", *fields).code == 0
    (event,) = desk("tail", "--from", "start", "--no-follow", "-o", "json").lines
    assert event["key"] == "7"
    assert event["fields"] == {"ticket_id": "7", "priority": 3, "lines": json.loads(lines)}


def test_all_fields_may_come_as_json_from_stdin(desk: Any) -> None:
    """Another program's JSON is piped in; a --field beside it overrides it."""
    stdin = b'{"ticket_id": "t-1", "priority": 1}'
    assert desk("publish", "desk", "TicketOpened", "--json", "-", "--field", "priority=5", stdin=stdin).code == 0
    (event,) = desk("tail", "--from", "start", "--no-follow", "-o", "json").lines
    assert event["fields"]["priority"] == 5


def test_the_key_may_be_given_beside_the_fields(desk: Any) -> None:
    """The event's key field is filled from it."""
    assert desk("publish", "desk", "TicketOpened", "--key", "t-9", "-o", "json").json["key"] == "t-9"


def test_an_event_from_outside_belongs_to_the_open_run(desk: Any) -> None:
    """An event that a run waits for needs no run id."""
    desk.opened("t-1", seated=True)
    assert desk("publish", "desk", "TicketClosed", "--key", "t-1").code == 0
    desk.fold()
    assert desk("show", "t-1", "-o", "json").json["waits"] == []


def test_an_event_that_no_run_can_take_is_refused_unless_it_is_wanted(desk: Any) -> None:
    """Exit code 4 without a run, 5 where nothing awaits it any more."""
    closed = ("publish", "desk", "TicketClosed", "--key", "t-1")
    unknown = desk(*closed)
    assert unknown.code == NOT_FOUND
    assert "there is no run that could take TicketClosed" in unknown.err
    assert desk(*closed, "--allow-early").code == 0
    desk.opened("t-1", seated=True)
    assert desk("terminate", "t-1", "--reason", "x").code == 0
    desk.fold()
    over = desk(*closed)
    assert over.code == CONFLICT
    assert "nothing awaits TicketClosed any more: the run has ended (terminated)" in over.err
