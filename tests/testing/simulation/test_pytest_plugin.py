"""The pytest plugin, in a pytest of its own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEST = '''
from choreo import Event, Flow, Service, StepContext


class Asked(Event):
    """It is asked for."""

    order_id: str


class Given(Event):
    """It is given."""

    order_id: str


desk = Service("desk")


@desk.step(on=Asked, emits=Given, effect=False)
def give(event: Asked, ctx: StepContext) -> Given:
    return Given(order_id=event.order_id)


loan = Flow("loan", key="order_id", starts=Asked, completes=Given, deadline="1d", services=[desk])


def test_it_is_given(flow_test) -> None:
    env = flow_test(loan)
    env.publish(Asked(order_id="o-1"))
    env.assert_events("o-1", Asked, Given)
'''


def test_the_plugin_gives_a_fixture(tmp_path: Path) -> None:
    """Open a flow by the fixture, in plain pytest without any other plugin."""
    (tmp_path / "test_loan.py").write_text(TEST)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "choreo.testing.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_the_plugin_by_itself() -> None:
    """Declare the entry point that pytest looks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"choreo": "choreo.testing.pytest_plugin"}
