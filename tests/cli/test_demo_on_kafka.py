"""`choreo demo --kafka --redis` on a real broker, a real Redis and the Faust tracker: the same orders and audit."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import required
from tests.support.redis_server import OwnRedis

ROOT = Path(__file__).parents[2]


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The options that name both servers."""
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis = OwnRedis(tmp_path_factory.mktemp("redis"))
        redis.start()
        yield ["--kafka", broker.bootstrap, "--redis", redis.url]
        redis.stop()


def test_every_order_ends_on_kafka_as_it_does_at_home(checkout: Path, servers: list[str]) -> None:
    """A hundred orders hold every kind; and the command that the demo ends with shows one of them."""
    ran = choreo(checkout, "demo", "--orders", "100", *servers)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    said = " ".join(ran.stdout.split())
    assert "69 completed, 31 compensated, 0 stuck, 2 dead letters" in said
    assert "Money and stock add up." in said
    *settings, _, command, key = shlex.split(re.findall("Look closer: (.*)", ran.stdout)[-1])
    shown = choreo(checkout, command, key, **dict(setting.split("=", 1) for setting in settings))
    assert shown.returncode == 0, shown.stderr
    assert "compensated" in shown.stdout


def choreo(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a copy of the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "choreo", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder), **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
