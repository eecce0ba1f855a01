"""Settings that all tests share: the profile of the property tests, and a Ctrl-C that counts."""

import os
import signal
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.installed import Environment, build_wheel
from tests.support.reader import Reader

# derandomize: a failure seen once is seen again by everybody. No deadline: the machine's load is not the code's fault.
settings.register_profile(
    "choreo", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("choreo")

# Tests in the background of a shell ignore Ctrl-C, and so does every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SERVERS = frozenset({"kafka", "shared_postgres", "own_postgres", "shared_redis", "own_redis", "docker_services"})
"""Fixtures that start a server."""


def on_servers(path: Path) -> bool:
    """Return whether `make` lists this file or folder, relative to the project, among the tests on servers."""
    return any(path.is_relative_to(listed) for listed in os.environ.get("CHOREO_TESTS_ON_SERVERS", "").split())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a test that needs a server and stands in none of the places that `make` lists."""
    if "CHOREO_TESTS_ON_SERVERS" not in os.environ:
        return
    served = {item.path for item in items if SERVERS & set(getattr(item, "fixturenames", ()))}
    missing = sorted(str(path) for path in served if not on_servers(path.relative_to(config.rootpath)))
    if missing:
        raise pytest.UsageError(f"tests that start servers: add {', '.join(missing)} to ON_SERVERS in the Makefile")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests on servers in one process, one after the other, and each other file in one process, beside them.

    So a server is started once. xdist's own groups (3.8) have no effect under pytest 9.2, which makes node ids anew.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Halves(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "servers" if on_servers(Path(path)) else path

    return Halves(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape half characters in captured text: xdist cannot send them, and its process ends."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where a broker answers: CHOREO_TEST_KAFKA, or one that is started once; topics need prefixes."""
    from tests.support import required  # needs the client of Kafka

    with required.bootstrap(tmp_path_factory.mktemp("kafka")) as address:
        yield address


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this checkout, built once."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel, its `web` extra, and a user's tools; nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    return Environment(folder, wheel, extras=("web",), tools=("pytest", "hatchling", "editables", "cryptography"))


@pytest.fixture
def newcomer(tmp_path: Path, installed: Environment) -> Iterator[Reader]:
    """Yield a reader in a new folder; `pip` installs, with the wheel for a package index."""
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
