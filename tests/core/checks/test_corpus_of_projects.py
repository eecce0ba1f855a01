"""The corpus of broken projects: faults that need files beside the declaration, or runs in flight."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from msgspec.structs import replace

from choreo import settings
from choreo.adapters import frozen_flows
from choreo.adapters.avro import frozen
from choreo.cli.check.project import of_files, of_project
from choreo.cli.schemas import event_classes
from choreo.core.checks.codes import CODES
from choreo.core.checks.paths import paths
from choreo.core.flow_table import FlowTable
from choreo.core.serving import stranding_findings
from choreo.wiring.flows import import_flows
from tests.core.checks.test_corpus import CORPUS
from tests.core.plain import flow, step
from tests.core.test_serving import FIRST, project

DECLARED = '''"""A flow of one step."""
from choreo import Event, Flow, Service, StepContext

class Asked(Event):
    """Asked."""
    number: str
    note: str = ""

class Done(Event):
    """Done."""
    number: str

desk = Service("desk")

@desk.step(on=Asked, emits=Done, effect=False)
def work(event: Asked, ctx: StepContext) -> Done:
    return Done(number=event.number)

flow = Flow("desk", key="number", starts=Asked, completes=Done, services=[desk])
'''


class Folder:
    """A project in a folder of its own, declared anew as often as a test likes."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it the current folder, with the flow frozen as it is declared first."""
        monkeypatch.chdir(path)
        monkeypatch.syspath_prepend(str(path))
        monkeypatch.delenv("CHOREO_FLOWS", raising=False)
        self._monkeypatch = monkeypatch
        self.path = path
        self.declare(DECLARED)
        flows = import_flows(())
        self.schemas = path / "schemas"
        frozen.freeze(event_classes(flows.values()), self.schemas)
        for each in flows.values():
            frozen_flows.freeze(each.draft(), frozen_flows.read(self.schemas), self.schemas)

    def declare(self, text: str) -> None:
        """Write the flow's module anew."""
        (self.path / "flow.py").write_text(text, encoding="utf-8")
        self._monkeypatch.delitem(sys.modules, "flow", raising=False)

    def codes(self) -> list[str]:
        """Return the codes of the project's findings."""
        try:
            return [found.code for found in of_project(settings.load()).findings]
        finally:
            sys.modules.pop("flow", None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Return a sound project."""
    return Folder(tmp_path, monkeypatch)


SECOND = """
class Placed(Event):
    \"\"\"Placed.\"\"\"
    number: str

class Filed(Event):
    \"\"\"Filed.\"\"\"
    number: str

other = Service("{service}")

@other.step(on=Placed, emits=Filed, effect=False)
def file(event: Placed, ctx: StepContext) -> Filed:
    return Filed(number=event.number)

second = Flow("second", key="number", starts=Placed, completes=Filed, services=[other])
"""

CHANGES: dict[str, Callable[[str], str]] = {
    "C113": lambda text: text + SECOND.format(service="desk"),
    "C702": lambda text: text.replace('note: str = ""', "note: int = 0"),
    "C703": lambda text: text.replace('note: str = ""', 'note: str = ""\n    more: str = ""'),
    "C801": lambda text: text.replace("def work(", "def serve("),
    "C802": lambda text: text.replace("emits=Done,", 'emits=Done, timeout="40s",'),
    "C803": lambda text: text.replace("services=[desk])", "services=[desk], version=2)"),
}
"""Code → the change of the declaration that gives it."""


@pytest.mark.parametrize("code", CHANGES)
def test_a_change_of_a_frozen_project_is_found(code: str, folder: Folder) -> None:
    """Of its services, events, steps and versions."""
    assert folder.codes() == []
    changed = CHANGES[code](DECLARED)
    assert changed != DECLARED
    folder.declare(changed)
    assert set(folder.codes()) - {"C802"} == {code} - {"C802"}
    assert code in folder.codes() or code == "C113"


def test_a_file_that_is_missing_or_damaged_is_found(folder: Folder) -> None:
    """Schemas and flows alike: without them nothing is known of old events and runs."""
    (folder.schemas / "Done.1.avsc").rename(folder.path / "aside")
    assert folder.codes() == ["C701"]
    (folder.schemas / "Done.1.avsc").write_text("{", encoding="utf-8")
    assert folder.codes() == ["C704"]
    (folder.path / "aside").rename(folder.schemas / "Done.1.avsc")
    (folder.schemas / "flows" / "desk.1.json").write_text("{", encoding="utf-8")
    assert folder.codes() == ["C804"]


def test_two_flows_with_two_classes_of_one_name_are_found(folder: Folder) -> None:
    """Both have one frozen contract, and one of them does not fit it; equal fields are no clash."""
    text = DECLARED + SECOND.format(service="other").replace("Filed", "Done")
    folder.declare(text)
    assert set(folder.codes()) == {"C701"}  # of the start event
    folder.declare(
        text.replace('"""Done."""\n    number: str\n\nother', '"""Done."""\n    number: str\n    cents: int\n\nother')
    )
    assert "C705" in folder.codes()


def test_a_file_that_is_no_flow_is_found(tmp_path: Path) -> None:
    """The other files are checked all the same."""
    (tmp_path / "order.json").write_text('{"name": "ord', encoding="utf-8")
    assert [found.code for found in of_files([tmp_path / "order.json", tmp_path / "none.json"]).findings] == [
        "C003"
    ] * 2


def test_a_search_that_is_given_up_is_found() -> None:
    """Eight steps choose one of seven boxes, and two in one box complete the flow: no search proves that in short."""
    steps = [
        step(f"a.choose{n}", "OrderPlaced", *(f"Box{box}Of{n}" for box in range(7)), effect=False) for n in range(8)
    ]
    pairs = [(f"Box{box}Of{one}", f"Box{box}Of{other}") for box in range(7) for one, other in combinations(range(8), 2)]
    joins = [
        step(f"b.join{number}", pair[0], "OrderConfirmed", effect=False, all_of=pair)
        for number, pair in enumerate(pairs)
    ]
    whole = flow(*steps, *joins)
    assert [finding.code for finding in paths(whole, FlowTable(whole), ())] == ["C211"]


@pytest.mark.parametrize(
    ("code", "options"), [("C812", {"name": "take"}), ("C812", {"versions": "2-"}), ("C813", {"undone": None})]
)
def test_runs_in_flight_that_a_deployment_would_strand_are_found(code: str, options: dict[str, object]) -> None:
    """A renamed step has the code of a step that is gone."""
    declared = project(**options)  # type: ignore[arg-type]
    table = FlowTable(replace(declared.draft(), frozen=(FIRST, declared.draft())))
    assert [finding.code for finding in stranding_findings(table, 1, declared.steps)] == [code]
    assert [finding.code for finding in stranding_findings(table, 7, declared.steps)] == ["C811"]


HERE = {"C003", "C113", "C211", "C701", "C702", "C703", "C704", "C801", "C802", "C803", "C804", "C811", "C812", "C813"}
"""The codes of this file's tests."""


def test_every_code_has_a_member_of_the_corpus() -> None:
    """A code without a broken flow that gives it could be a check that never fires."""
    found = {code for example in CORPUS for code in example.codes}
    assert found | HERE == CODES.keys()
    assert sum(bool(example.codes) for example in CORPUS) >= 40
    assert sum(not example.codes for example in CORPUS) >= 8
