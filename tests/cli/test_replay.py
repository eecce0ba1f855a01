"""`choreo replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from choreo.cli.failures import CONFLICT, NOT_FOUND, PROBLEM, USAGE


def test_the_same_code_gives_the_same(desk: Any) -> None:
    """No difference, and nothing is written."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    desk("pause", "t-2")
    desk.fold()
    before = desk.within(lambda app: app.backend.read_model.digest("desk"))
    answer = desk("replay")
    assert answer.code == 0, answer.err
    assert answer.out == "flow desk: 4 records folded again, 2 runs compared: 0 differences\n"
    assert desk.within(lambda app: app.backend.read_model.digest("desk")) == before


def test_a_longer_deadline_is_listed_with_both_moments(redeclared: Any) -> None:
    """Exit code 1, for a pipeline."""
    desk = redeclared(('deadline="30d"', 'deadline="90d"'))
    answer = desk("replay", "t-1", "-o", "json")
    assert answer.code == PROBLEM
    *found, end = answer.lines
    assert [each["difference"]["about"] for each in found] == ["timers"]
    assert {each["difference"]["key"] for each in found} == {"t-1"}
    assert end == {"flow": "desk", "ok": False, "records": 2, "runs": 1, "truncated": 0, "differences": 1}


def test_a_deployment_that_would_turn_an_open_run_is_refused_with_the_list(redeclared: Any) -> None:
    """Each run with both states. Nothing is written."""
    text = (Path.cwd() / "desk_flow.py").read_text()
    start, end = text.index("@take.compensate"), text.index("@archive.step")
    desk = redeclared((text[start:end], ""))
    module = Path.cwd() / "desk_flow.py"
    module.write_text(module.read_text().replace("emits=SeatTaken)", "emits=SeatTaken, effect=False)"))
    before = desk.within(state_of)
    refused = desk("deploy", "check", "desk", "--replay", "-o", "json")
    assert (refused.code, refused.json["ok"]) == (PROBLEM, False)
    changed = [(each["key"], each["about"], each["recorded"], each["replayed"]) for each in refused.json["changed"]]
    assert changed == [("t-1", "effects", "seats.take open", "none")]
    assert "seats.take open" in desk("deploy", "check", "--replay").out
    assert desk.within(state_of) == before


async def state_of(app: Any) -> tuple[Any, list[int]]:
    """Return everything that a command could have written."""
    ends = [await app.backend.log.end("desk", number) for number in range(await app.backend.log.partitions("desk"))]
    return await app.backend.read_model.digest("desk"), ends


def test_a_longer_time_is_no_reason_to_refuse_a_deployment(redeclared: Any) -> None:
    """It turns no run."""
    desk = redeclared(('deadline="30d"', 'deadline="90d"'))
    assert desk("deploy", "check", "--replay").out == "2 open runs can go on after this deployment.\n"


def test_an_export_is_replayed_without_the_installation(desk: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """On another machine: the log and the views are in the file."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    file = str(tmp_path / "desk.jsonl")
    written = desk("replay", "--export", file)
    assert written.out == f"wrote {file}: 3 records, 2 runs\n"
    assert desk("replay", "--export", file).code == CONFLICT
    shown = desk("show", "t-1", "-o", "json").json
    monkeypatch.setenv("CHOREO_DATABASE", str(tmp_path / "elsewhere" / "none.db"))
    assert desk("replay", "--log", file).out == "flow desk: 3 records folded again, 2 runs compared: 0 differences\n"
    last = desk("replay", "t-1", "--log", file, "--at", str(shown["position"]), "-o", "json").json
    assert {**last, "at": None} == {**shown, "at": None}
    assert not (tmp_path / "elsewhere").exists()


def test_a_position_shows_the_state_of_that_moment(desk: Any) -> None:
    """With the waits, the ledger and the timeline that it had then."""
    desk.opened("t-1", seated=True)
    first = desk("replay", "t-1", "--at", "0")
    assert "waits for   TicketClosed" not in first.out
    assert "SeatTaken" not in first.out.split("\n\n")[1]
    story = desk("show", "t-1", "-o", "json").json["timeline"]
    then = desk("replay", "t-1", "--at", story[0]["stamp"], "-o", "json").json
    assert then["ledger"] == [] or then["at"]["offset"] == story[1]["offset"]


def test_two_positions_show_what_changed_between_them(desk: Any) -> None:
    """The fields and the events."""
    desk.opened("t-1", seated=True)
    story = desk("show", "t-1", "-o", "json").json["timeline"]
    answer = desk("replay", "t-1", "--from", str(story[0]["offset"]), "-o", "json").json
    assert answer["changed"]["effects"] == {"from": "none", "to": "seats.take open"}
    assert [event["type"] for event in answer["events"]] == ["SeatTaken"]
    table = desk("replay", "t-1", "--from", str(story[0]["offset"])).out
    assert "effects" in table


def test_a_position_before_the_start_says_where_the_log_begins(desk: Any) -> None:
    """And a text that is no position, one of another partition, or a key that is not there is refused."""
    desk.opened("t-1")
    early = desk("replay", "t-1", "--at", "2001-01-01T00:00:00Z")
    assert early.code == NOT_FOUND
    assert "Its log begins at offset 0" in early.err
    assert desk("replay", "t-1", "--at", "yesterday").code == USAGE
    assert desk("replay", "t-1", "--at", "other/0/1").code == USAGE
    assert desk("replay", "nobody", "--at", "1").code == NOT_FOUND
    assert desk("replay", "--at", "1").code == USAGE
    assert desk("replay", "t-1", "--export", "x", "--at", "1").code == USAGE
