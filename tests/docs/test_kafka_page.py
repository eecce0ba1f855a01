"""The commands of docs/kafka.md, as they stand there: an order runs on a real broker, and kcat brings it to its end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import required
from tests.support.kafka import free_ports
from tests.support.redis_server import OwnRedis

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kafka.md").read_text()
BLOCKS = dict(re.findall(r"<!-- run: (\S+) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))
PATIENCE_S = 120.0


class Reader:
    """Somebody who types what the page says, in a checkout."""

    def __init__(self, folder: Path, kafka: str, redis: str) -> None:
        """With `choreo` on the path, and nothing that was installed already to be installed again."""
        for name in ("services", "schemas", "topics"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        programs = folder / "bin"
        programs.mkdir()
        for name, line in (("choreo", f'exec "{sys.executable}" -m choreo "$@"'), ("pip", "exit 0")):
            (programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (programs / name).chmod(0o755)
        self._folder = folder
        self._servers = {"localhost:9092": kafka, "redis://localhost:6379/0": redis}
        self._environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "CHOREO_PORT": str(free_ports(1)[0]),
            "CHOREO_KAFKA": kafka,
            "CHOREO_REDIS": redis,
        }
        self._groups: list[int] = []

    def types(self, script: str) -> str:
        """Run it, and say what it printed; what it leaves in the background goes on."""
        for written, meant in self._servers.items():
            script = script.replace(written, meant)
        output = self._folder / f"output-{len(self._groups)}.txt"
        with output.open("wb") as stream:
            shell = subprocess.Popen(
                ["/bin/bash", "-euo", "pipefail", "-c", script],
                cwd=self._folder,
                env=self._environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self._groups.append(shell.pid)
        code = shell.wait(PATIENCE_S)
        said = output.read_text()
        assert code == 0, said
        return said

    def sees(self, command: str, expected: str) -> None:
        """Type it again and again until it answers so."""
        give_up_s = time.monotonic() + PATIENCE_S
        while expected not in " ".join((said := self.types(f"{command} || true")).split()):
            assert time.monotonic() < give_up_s, f"waited in vain for {expected!r}: {said}"

    def leaves(self) -> None:
        """Stop what was left in the background."""
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue


@pytest.fixture
def reader(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """In front of a cluster and a Redis where nothing was ever made."""
    if shutil.which("kcat") is None:
        required.absent("kcat is not installed (Debian: apt-get install kcat)")
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    with required.broker(tmp_path_factory.mktemp("kafka")) as broker:
        redis.start()
        reader = Reader(tmp_path, broker.bootstrap, redis.url)
        yield reader
        reader.leaves()
        redis.stop()


def test_what_the_page_says_runs_an_order_from_its_start_to_its_end(reader: Reader) -> None:
    """Topics, seven processes, an order by the command line; its pick comes from kcat."""
    said = reader.types(BLOCKS["by-hand"])
    assert "OrderPlaced of order o-1 published" in said
    reader.sees("choreo show o-1", "waits for ShipmentPicked")
    reader.types(BLOCKS["from-outside"])
    reader.sees("choreo show o-1", "order o-1 completed")
    assert "Nothing to do" in reader.types("choreo topics plan")
    assert "1 completed" in reader.types("choreo projections rebuild order")
