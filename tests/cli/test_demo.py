"""`choreo demo` as a user runs it: every kind of order, each ending as it must, and an audit that can fail."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from choreo.cli.demo.plan import load_demos
from choreo.core.errors import SettingsError
from choreo.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_order_ends_as_it_must_and_the_books_add_up(checkout: Path) -> None:
    """A hundred orders hold every kind; the JSON has the figures that were promised."""
    ran = _demo(checkout, "--orders", "100", "-o", "json")
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr  # its handlers fail on purpose
    result = json.loads(ran.stdout)
    assert list(result) == [
        "orders", "completed", "compensated", "stuck", "dead_letters", "audit_ok", "orders_per_s", "p50_ms", "p99_ms",
        "flows",
    ]  # fmt: skip
    assert (result["orders"], result["completed"], result["compensated"], result["stuck"]) == (100, 69, 31, 0)
    assert result["dead_letters"] == 2
    assert result["audit_ok"] is True
    trips = result["flows"]["trip"]
    assert trips["outcomes"] == {"compensated": 33, "approved": 21, "escalated": 6}
    assert (trips["placed"], trips["completed"], trips["stuck"], trips["audit_ok"]) == (60, 27, 0, True)
    assert trips["children"] == {"ticket": {"compensated": 36, "completed": 81}}
    assert [replayed(checkout, flow) for flow in ("order", "trip", "ticket")] == [set(), set(), set()]
    assert replayed(checkout, "order", CHOREO_TIME_SCALE="3600") == {"timer"}  # twice as long: no state is another


def replayed(folder: Path, flow: str, **variables: str) -> set[str]:
    """Return the kinds of differences of a replay of the demo's log, which was made with its time scale."""
    settings = {"CHOREO_DATABASE": ".choreo/demo/choreo.db", "CHOREO_TIME_SCALE": "7200", **variables}
    again = _choreo(folder, "replay", "--flow", flow, "-o", "json", **settings)
    *lines, end = [json.loads(line) for line in again.stdout.splitlines()]
    assert end["runs"] >= 60, again.stderr
    return {line["difference"]["kind"] for line in lines}


def test_trips_alone_are_played_and_shown(checkout: Path) -> None:
    """Each kind, with its outcome; the timeline is of a trip whose tickets were issued and undone."""
    ran = _demo(checkout, "--flow", "trip", "--trips", "20")
    assert ran.returncode == 0, ran.stderr
    said = " ".join(ran.stdout.split())
    assert "20 trips: 9 completed (7 approved, 2 escalated), 11 compensated, 0 stuck, 0 dead letters" in said
    assert "ticket, children of trip: 16 compensated, 20 completed." in said
    assert "Seats, rooms, cars, fares and tickets add up." in said
    assert "orders" not in said
    assert re.search(r"choreo show t-\d{4} --flow trip", said)


def test_a_ticket_that_is_not_voided_fails_the_demo(checkout: Path) -> None:
    """The children of a trip are audited with it: the airline says that a ticket is void, and keeps it."""
    carrier = checkout / "services" / "gateways" / "carrier.py"
    text = carrier.read_text()
    spoiled = text.replace("INSERT INTO cancellations (key, shipment_key) VALUES (?, ?)", "SELECT ?, ?")
    spoiled = spoiled.replace("SELECT ?, ? ON CONFLICT DO NOTHING", "SELECT ?, ?")
    assert spoiled != text
    carrier.write_text(spoiled)
    ran = _demo(checkout, "--flow", "trip", "--trips", "20", "-o", "json")
    assert ran.returncode == 1, ran.stderr
    found = json.loads(ran.stdout)
    assert list(found)[:7] == [
        "trips", "completed", "compensated", "stuck", "dead_letters", "audit_ok", "trips_per_s",
    ]  # fmt: skip
    assert (found["trips"], found["audit_ok"], found["flows"]["trip"]["audit_ok"]) == (20, False, False)
    assert "compensated, but 1 coupons stand, not 0" in ran.stderr


def test_a_flow_that_the_demo_has_not_is_named(checkout: Path) -> None:
    """With those that it has."""
    ran = _demo(checkout, "--flow", "travel")
    assert ran.returncode == 4
    assert "the demo has no flow 'travel'" in ran.stderr
    assert "Its flows are: order, trip." in ran.stderr


def test_a_second_demo_in_the_folder_leaves_the_first_its_files(checkout: Path) -> None:
    """It is refused while the first one runs."""
    book = checkout / ".choreo" / "demo" / "a book of the first"
    book.parent.mkdir(parents=True)
    book.touch()
    with (checkout / ".choreo" / "demo.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = _demo(checkout, "--flow", "trip", "--trips", "1")
    assert ran.returncode != 0
    assert "another demo runs in this folder" in ran.stderr
    assert "in another working directory" in ran.stderr
    assert book.exists()


def test_books_that_do_not_add_up_fail_the_demo(checkout: Path) -> None:
    """A bank that charges declined cards is found out: exit code 1, and a sentence with the fault."""
    bank = checkout / "services" / "gateways" / "bank.py"
    text = bank.read_text()
    spoiled = text.replace('"declined" if "declined" in marked else "charged"', '"charged"')
    assert spoiled != text
    bank.write_text(spoiled)
    ran = _demo(checkout, "--orders", "100", "-o", "json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["audit_ok"] is False
    assert "card declined" in ran.stderr


def test_a_project_without_a_demo_is_told_how_to_have_one(tmp_path: Path) -> None:
    """Outside a checkout the message names the remedy."""
    ran = _demo(tmp_path)
    assert ran.returncode == 2
    assert "this project has no demo" in ran.stderr
    assert 'demo = "module:name"' in ran.stderr


def test_a_demo_is_found_in_a_folder_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the container's image has it: the project lies beside, and only choreo is installed."""
    (tmp_path / "a_shops_demo.py").write_text("class Demo:\n    flow, time_scale = 'stall', 1.0\n\n\ndemo = Demo()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert [demo.flow for demo in load_demos(Settings(demo="a_shops_demo:demo"))] == ["stall"]


def test_demos_of_different_time_scales_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in one process, which has one."""
    lines = [
        "class Demo:",
        "    def __init__(self, flow, time_scale):",
        "        self.flow, self.time_scale = flow, time_scale",
    ]
    (tmp_path / "two_demos.py").write_text("\n".join([*lines, "", "both = (Demo('a', 1.0), Demo('b', 2.0))", ""]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SettingsError, match="different time scales") as refused:
        load_demos(Settings(demo="two_demos:both"))
    assert "the same time_scale" in refused.value.remedy


def _demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _choreo(folder, "demo", *arguments)


def _choreo(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "choreo", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
