"""`choreo why`, and the same object over REST."""

from __future__ import annotations

from typing import Any

from choreo.cli.failures import NOT_FOUND, PROBLEM
from choreo.ports.log import CommitBatch
from choreo.surfaces.json_format import WhyAnswer
from choreo.wiring import App


def asked(desk: Any, key: str, *roles: str) -> dict[str, Any]:
    """Return the answer of the use case while a member of each of these groups has joined and read everything."""

    async def work(app: App) -> dict[str, Any]:
        for role in roles:
            consumer = await app.backend.log.consumer("desk", role, f"{role}-1")
            poll = await consumer.poll(1_000, 0)
            await consumer.commit(CommitBatch(done=poll.read))
        return WhyAnswer.model_validate(await app.queries.why("desk", key)).model_dump()

    answer: dict[str, Any] = desk.within(work)
    return answer


def test_one_cause_its_evidence_and_the_next_command(desk: Any) -> None:
    """Exit code 1 where something is wrong."""
    desk.opened("t-1")
    answer = desk("why", "t-1")
    assert answer.code == PROBLEM
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in answer.out.splitlines()}
    assert lines["desk t-1"] == "running"
    assert lines["tracker-away"].startswith("no tracker is running")
    assert lines["members of tracker"] == "none"
    assert lines["also no-member"].startswith("no process of service seats is running")
    assert lines["next"] == "choreo run tracker"
    assert desk("why", "nobody").code == NOT_FOUND


def test_json_has_the_cause_and_the_positions(desk: Any) -> None:
    """The same fields as GET …/why."""
    desk.opened("t-1", seated=True)
    answer = desk("why", "t-1", "-o", "json")
    assert answer.code == PROBLEM
    assert answer.json["cause"] == "tracker-away"
    assert answer.json["position"] == "desk/0/1"
    assert set(answer.json) == set(WhyAnswer.model_fields)


def test_nothing_is_wrong_while_a_run_waits(desk: Any) -> None:
    """With a tracker, a run that waits for an event from outside is healthy; so is one that has ended."""
    desk.opened("t-1", seated=True)
    answer = asked(desk, "t-1", "tracker", "seats", "archive")
    assert (answer["cause"], answer["healthy"], answer["command"]) == ("waiting", True, "")
    assert answer["sentence"].startswith("nothing is wrong: it waits for TicketClosed from outside, until ")
    desk("terminate", "t-1", "--reason", "by mistake")
    desk.fold()
    ended = desk("why", "t-1")
    assert ended.code == 0
    assert "it has ended: terminated: by mistake" in ended.out


def test_a_printed_command_ends_the_cause(desk: Any) -> None:
    """The pause of an operator, through the command line."""
    desk.opened("t-1", seated=True)
    desk("pause", "t-1", "--reason", "ann looks")
    desk.fold()
    answer = asked(desk, "t-1", "tracker", "seats", "archive")
    assert answer["sentence"].endswith(": ann looks")
    words = answer["command"].split()
    assert words == ["choreo", "resume", "t-1", "--flow", "desk"]
    assert desk(*words[1:]).code == 0
    desk.fold()
    assert asked(desk, "t-1", "tracker", "seats", "archive")["cause"] == "waiting"
