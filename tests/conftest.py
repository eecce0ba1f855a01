"""What every test shares: the profile of the property tests, and a Ctrl-C that counts."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.installed import Environment, build_wheel
from tests.support.reader import Reader

# derandomize: a failure seen once is seen again by everybody. No deadline: the machine's load is not the code's fault.
settings.register_profile(
    "choreo", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("choreo")

# Who runs the tests in the background of a shell has them ignore Ctrl-C, and with them every process they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests on servers in one process, one after the other, and each other file in one process, beside them.

    Only where `make test HALVES=2` asks for two processes: a server of a fixture is then started once, as without them.
    """
    if config.getoption("dist", "no") != "loadgroup":
        return
    on_servers = [config.rootpath / path for path in os.environ["CHOREO_TESTS_ON_SERVERS"].split()]
    for item in items:
        served = any(item.path.is_relative_to(path) for path in on_servers)
        item.add_marker(pytest.mark.xdist_group("servers" if served else str(item.path)))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built once."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, its `web` extra, and what a user installs besides; nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    return Environment(folder, wheel, extras=("web",), tools=("pytest", "hatchling", "editables", "cryptography"))


@pytest.fixture
def newcomer(tmp_path: Path, installed: Environment) -> Iterator[Reader]:
    """Somebody who begins; `pip` installs, with the wheel for a package index."""
    programs, folder = tmp_path / "bin", tmp_path / "project"
    programs.mkdir()
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    installed.pip_without_index(programs / "pip")
    variables = {**installed.variables(folder), "CHOREO_PORT": port}
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    reader = Reader(folder, variables, {"127.0.0.1:8080": f"127.0.0.1:{port}"})
    yield reader
    reader.leaves()
