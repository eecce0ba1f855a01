"""`choreo demo --kafka --redis` on a real broker, a real Redis and the Faust tracker: the same orders and audit."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import required
from tests.support.postgres_server import PASSWORD, running_postgres
from tests.support.redis_server import OwnRedis

pytestmark = pytest.mark.timeout(600)

redis = required.needed("redis", "redis")
AdminClient = required.needed("confluent_kafka.admin", "kafka").AdminClient

ROOT = Path(__file__).parents[2]


class Servers(NamedTuple):
    """Where they answer."""

    kafka: str
    redis: str

    @property
    def options(self) -> list[str]:
        """Return those that name both."""
        return ["--kafka", self.kafka, "--redis", self.redis]

    def left(self) -> list[str]:
        """Return topics and keys of a demo that are there."""
        topics = AdminClient({"bootstrap.servers": self.kafka}).list_topics(timeout=10).topics
        with redis.Redis.from_url(self.redis, decode_responses=True) as client:
            keys = list(client.scan_iter("*demo-*"))
        return [topic for topic in topics if topic.startswith("demo-")] + keys


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Yield both running."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        own = OwnRedis(tmp_path_factory.mktemp("redis"))
        own.start()
        yield Servers(broker.bootstrap, own.url)
        own.stop()


def test_every_order_ends_on_kafka_as_it_does_at_home(checkout: Path, servers: Servers) -> None:
    """A hundred orders hold every kind; and nothing of them is left."""
    ran = choreo(checkout, "demo", "--orders", "100", *servers.options)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    said = " ".join(ran.stdout.split())
    assert "69 completed, 31 compensated, 0 stuck, 2 dead letters" in said
    assert "60 trips: 27 completed (21 approved, 6 escalated), 33 compensated, 0 stuck, 0 dead letters" in said
    assert "ticket, children of trip: 36 compensated, 81 completed." in said
    assert "Seats, rooms, cars, fares and tickets add up." in said
    assert "Money and stock add up." in said
    assert "--keep leaves them" in said
    assert servers.left() == []


def test_every_order_ends_on_postgres_too(checkout: Path, servers: Servers) -> None:
    """In the place of Redis; its schema is dropped, and its password is not shown."""
    with running_postgres() as postgres:
        ran = choreo(
            checkout, "demo", "--orders", "100", "--trips", "20", "--kafka", servers.kafka, "--postgres", postgres.url
        )
        assert ran.returncode == 0, ran.stderr + ran.stdout
        said = " ".join(ran.stdout.split())
        assert "69 completed, 31 compensated, 0 stuck, 2 dead letters" in said
        assert "Money and stock add up." in said
        assert PASSWORD not in ran.stdout + ran.stderr
        assert postgres.query("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'choreo%'") == []


def test_a_demo_that_is_kept_can_be_looked_at(checkout: Path, servers: Servers) -> None:
    """By the command that it ends with."""
    ran = choreo(checkout, "demo", "--orders", "10", "--trips", "1", "--keep", *servers.options)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    *settings, _, command, key, option, flow = shlex.split(re.findall("Look closer: (.*)", ran.stdout)[-1])
    given = dict(setting.split("=", 1) for setting in settings)
    shown = choreo(checkout, command, key, option, flow, **given)
    assert shown.returncode == 0, shown.stderr
    assert "OrderPlaced" in shown.stdout
    kept = {name.partition(given["CHOREO_KAFKA_TOPIC_PREFIX"])[2] for name in servers.left()}
    assert {"order", "order.dead-letters", "trip", "ticket", ":inbox:payment:memory"} <= kept


def test_a_demo_that_is_interrupted_leaves_nothing(checkout: Path, servers: Servers) -> None:
    """Ctrl-C while its orders are under way."""
    before = set(servers.left())
    with subprocess.Popen(
        [sys.executable, "-m", "choreo", "demo", "--flow", "order", "--orders", "5000", *servers.options],
        cwd=checkout,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        try:
            wait_for(lambda: any("inbox:payment:row" in name for name in set(servers.left()) - before))
            demo.send_signal(signal.SIGINT)
            said, _ = demo.communicate(timeout=120)
        finally:
            demo.kill()
    assert demo.returncode == 130, said
    assert set(servers.left()) <= before, said  # older keys expire meanwhile


def wait_for(true: Callable[[], bool]) -> None:
    """Look until it is so; a look takes some ten milliseconds."""
    until_s = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until_s, "no order was under way"


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that the program needs, and none of the shell that runs the tests."""
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}


def choreo(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a copy of the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "choreo", *arguments],
        cwd=folder,
        env={**environment(folder), **settings},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )
