"""The commands of docs/kafka.md, as they stand there: an order runs on a real broker, and kcat brings it to its end."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import required
from tests.support.kafka import free_ports
from tests.support.reader import Reader
from tests.support.redis_server import OwnRedis

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kafka.md").read_text()
BLOCKS = dict(re.findall(r"<!-- run: (\S+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))


def _checkout(folder: Path, kafka: str, redis: str) -> Reader:
    """Return a reader in a checkout: `choreo` is on the path, and installed already."""
    for name in ("services", "schemas", "topics"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    programs = folder / "bin"
    programs.mkdir()
    for name, line in (("choreo", f'exec "{sys.executable}" -m choreo "$@"'), ("pip", "exit 0")):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    variables = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "CHOREO_PORT": str(free_ports(1)[0]),
        "CHOREO_KAFKA": kafka,
        "CHOREO_REDIS": redis,
    }
    return Reader(folder, variables, {"localhost:9092": kafka, "redis://localhost:6379/0": redis})


@pytest.fixture
def reader(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Yield a reader with a cluster and a Redis that are new and empty."""
    if shutil.which("kcat") is None:
        required.absent("kcat is not installed (Debian: apt-get install kcat)")
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis.start()
        reader = _checkout(tmp_path, broker.bootstrap, redis.url)
        yield reader
        reader.leaves()
        redis.stop()


def test_what_the_page_says_runs_an_order_from_its_start_to_its_end(reader: Reader) -> None:
    """Topics, seven processes, an order by the command line; its pick comes from kcat."""
    said = reader.types(BLOCKS["by-hand"])
    assert "OrderPlaced of order o-1 published" in said
    reader.sees("choreo show o-1 --flow order", "waits for ShipmentPicked")
    reader.types(BLOCKS["from-outside"])
    reader.sees("choreo show o-1 --flow order", "order o-1 completed")
    assert "Nothing to do" in reader.types("choreo topics plan")
    assert "1 completed" in reader.types("choreo projections rebuild order")
