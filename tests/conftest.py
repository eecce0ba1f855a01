"""Settings that all tests share: the profile of the property tests, and a Ctrl-C that counts."""

import os
import signal
import socket
from collections.abc import Generator, Iterator
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

# Tests in the background of a shell ignore Ctrl-C, and so does every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SERVERS = frozenset({"kafka", "shared_postgres", "own_postgres", "shared_redis", "own_redis", "docker_services"})
"""Fixtures that start a server."""


def on_servers(path: Path) -> int | None:
    """Return the place of this file, relative to the project, in the list of tests on servers, or None."""
    listed = os.environ.get("CHOREO_TESTS_ON_SERVERS", "").split()
    return next((place for place, entry in enumerate(listed) if path.is_relative_to(entry)), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests on servers first, which take longest; refuse one that stands in none of the places `make` lists."""
    if "CHOREO_TESTS_ON_SERVERS" not in os.environ:
        return
    places = {path: on_servers(path.relative_to(config.rootpath)) for path in {item.path for item in items}}
    served = {item.path for item in items if SERVERS & set(getattr(item, "fixturenames", ()))}
    missing = sorted(str(path.relative_to(config.rootpath)) for path in served if places[path] is None)
    if missing:
        raise pytest.UsageError(f"tests that start servers: add {', '.join(missing)} to ON_SERVERS in the Makefile")
    last = len(places)
    items.sort(key=lambda item: last if (place := places[item.path]) is None else place)


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
