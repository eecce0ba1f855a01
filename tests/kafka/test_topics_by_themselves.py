"""A broker that creates the topics it is asked for: no role and no command lets it create a wrong one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.topics import changelog_of
from choreo.cli.failures import NOT_FOUND
from choreo.cli.program import run
from tests.kafka.conftest import Servers
from tests.kafka.everything import running
from tests.kafka.harness import FLOW, Harness
from tests.support import required
from tests.support.kafka import Broker
from tests.support.patience import PATIENCE_S
from tests.support.redis_server import OwnRedis


class Creating(Broker):
    """A broker with the default that Kafka comes with."""

    def __init__(self, folder: Path) -> None:
        """Make a broker as any other of the tests, but for that."""
        super().__init__(folder)
        with self._settings.open("a", encoding="utf-8") as settings:
            settings.write("auto.create.topics.enable=true\n")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Yield such a broker, and a Redis."""
    with required.broker(tmp_path_factory.mktemp("creating"), Creating) as broker:
        redis = OwnRedis(tmp_path_factory.mktemp("redis"))
        redis.start()
        yield Servers(broker.bootstrap, redis.url)
        redis.stop()


async def topics(servers: Servers) -> set[str]:
    """Return names of this installation's topics, without the prefix."""
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    listed = await asyncio.to_thread(AdminClient({"bootstrap.servers": servers.kafka}).list_topics, timeout=20)
    return {name.removeprefix(prefix) for name in listed.topics if name.startswith(prefix)}


COMMANDS = [
    ("publish", FLOW, "ShipmentPicked", "--key", "o-1", "--field", "picked_by=p", "--allow-early"),
    ("show", "o-1"),
    ("tail", FLOW, "--no-follow", "--from", "start"),
    ("cancel", "o-1"),
    ("projections", "rebuild", FLOW),
    ("topics", "adopt", FLOW),
    ("topics", "adopt", FLOW, "--same-records"),
]
QUIET = [("list",), ("dlq", "list"), ("topics", "diff"), ("topics", "plan")]
ROLES = ["payment", "tracker", "projector"]


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with an installation without topics."""
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + "none-")


@pytest.mark.parametrize("command", [*COMMANDS, *QUIET], ids=" ".join)
async def test_no_command_creates_a_topic(
    harness: Harness, nothing: None, servers: Servers, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with an error that names the missing part, or has nothing to show."""
    code = await asyncio.to_thread(run, command)
    output = capsys.readouterr()
    assert await topics(servers) == set()
    if command in COMMANDS:
        assert (code, "there is no such topic" in output.err) == (NOT_FOUND, True), output.err
    else:
        assert code <= 1


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_creates_a_topic(harness: Harness, nothing: None, servers: Servers, role: str) -> None:
    """It ends and says how to create them."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "choreo", "run", role, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(started.communicate(), PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            started.kill()
    assert started.returncode
    assert b"there is no such topic" in output, output.decode()
    assert b"choreo topics apply" in output
    assert await topics(servers) == set()


async def test_topics_that_are_deleted_under_all_roles_stay_deleted(
    harness: Harness, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported and no role ends; nobody asks the broker in a way that creates topics."""
    async with running(harness, monkeypatch) as everyone:
        await harness.place("o-1", card="declined")
        await harness.until(lambda: everyone.stand(["o-1"], "compensated"), "an order ends")
        admin = AdminClient({"bootstrap.servers": servers.kafka})
        prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
        gone = {FLOW, changelog_of(FLOW), FLOW + ".dead-letters"}
        for answer in admin.delete_topics([prefix + name for name in sorted(gone)]).values():
            await asyncio.to_thread(answer.result, PATIENCE_S)
        await harness.until(lambda: everyone.reports(f"projector of {FLOW}"), "it is reported")
        assert not gone & await topics(servers)
        assert everyone.is_running
