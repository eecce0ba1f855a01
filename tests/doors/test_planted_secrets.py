"""Passwords of Kafka, Redis and the registry stand in no output of any command, whatever goes wrong.

Every command runs as a process, with tracebacks and at debug level, against servers that are away, that refuse, that
echo what they were sent, and under settings that cannot be read.
"""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from choreo.cli.program import COMMANDS
from choreo.redaction import MASK
from tests.support import required
from tests.support.planted import leaks
from tests.support.redis_server import OwnRedis

required.needed("confluent_kafka.schema_registry", "registry")
required.needed("redis", "redis")
required.needed("faust", "faust")

ROOT = Path(__file__).parents[2]
GOES_ON_S = 4
"""How long a command that waits for a server goes on before it is told to stop."""
AT_ONCE = 8

SECRETS = {
    "kafka": "kAfk4-hunter2 ü'x",
    "redis": "r3dIs/hun?ter2:p@ss%41#w",
    "registry": "rEg1stry+hunter2/y&z",
    "key": "kEyPhr4se-hunter2",
}

# Each with arguments with which it reaches for the servers.
CALLS: dict[str, list[list[str]]] = {
    "new": [["new", "shop"]],
    "demo": [["demo", "--kafka", "{kafka}", "--redis", "{redis}", "--orders", "2"]],
    "dev": [["dev", "--log-level", "debug"]],
    "run": [["run", role, "--log-level", "debug"] for role in ("payment", "tracker", "projector", "rest")],
    "publish": [["publish", "order", "OrderPlaced", "--json", "{{}}"]],
    "list": [["list", "order"]],
    "show": [["show", "o-1", "--flow", "order"]],
    "tail": [["tail", "order"]],
    "dlq": [["dlq", "list"]],
    "pause": [["pause", "o-1"]],
    "resume": [["resume", "o-1"]],
    "cancel": [["cancel", "o-1"]],
    "terminate": [["terminate", "o-1", "--reason", "x"]],
    "undo": [["undo", "retry", "o-1", "payment.charge"]],
    "projections": [["projections", "rebuild", "order"]],
    "check": [["check"]],
    "schemas": [["schemas", "list"]],
    "topics": [["topics", "plan"]],
    "flow": [["flow", "export", "order"]],
}
LOUDEST = ("run", "list", "topics", "demo", "publish")
"""Of each way to reach a server one."""


class Echo(BaseHTTPRequestHandler):
    """A registry, or a proxy in front of it, that says in its refusal what it was sent."""

    def do_GET(self) -> None:
        """Refuse."""
        said = f"no {self.requestline} with {dict(self.headers)}".replace('"', "'")
        body = f'{{"error_code": 401, "message": "{said}"}}'.encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the server's own name

    def log_message(self, *_what: object) -> None:
        """Say nothing."""


class Parrot(socketserver.BaseRequestHandler):
    """A server that is no Kafka: it sends back what it gets."""

    def handle(self) -> None:
        """Answer until the other side leaves."""
        while said := self.request.recv(4_096):
            self.request.sendall(said)


@contextmanager
def answering(server: socketserver.BaseServer) -> Iterator[int]:
    """The server in a thread; its port."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def away() -> Iterator[int]:
    """A port where nobody answers, kept from others."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """A Redis with another password, a registry that refuses, and a broker that is none."""
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    redis.start("--requirepass", "another")
    try:
        with (
            answering(ThreadingHTTPServer(("127.0.0.1", 0), Echo)) as registry,
            answering(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Parrot)) as kafka,
        ):
            yield {"redis": redis.port, "registry": registry, "kafka": kafka}
    finally:
        redis.stop()


def planted(ports: Mapping[str, int], **changed: str) -> dict[str, str]:
    """The environment of a process that is to reach servers there, with its passwords."""
    place = f"127.0.0.1:{ports['registry']}"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CHOREO_FLOWS": "services.order_flow:order",
        "CHOREO_KAFKA": f"127.0.0.1:{ports['kafka']}",
        "CHOREO_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "CHOREO_KAFKA_SASL_MECHANISM": "PLAIN",
        "CHOREO_KAFKA_SASL_USERNAME": "ann",
        "CHOREO_KAFKA_SASL_PASSWORD": SECRETS["kafka"],
        "CHOREO_KAFKA_SSL_KEY_PASSWORD": SECRETS["key"],
        "CHOREO_REDIS": f"redis://ann:{quote(SECRETS['redis'], safe='')}@127.0.0.1:{ports['redis']}/0",
        "CHOREO_SCHEMA_REGISTRY_URL": f"http://ann:{quote(SECRETS['registry'], safe='')}@{place}",
        **changed,
    }


def shown_by(call: list[str], environment: Mapping[str, str], folder: Path, until: str = "\n") -> tuple[str, str]:
    """What a command prints, on both streams; one that has said this and goes on is told to stop, and told again."""
    given = [part.format(kafka=environment["CHOREO_KAFKA"], redis=environment["CHOREO_REDIS"]) for part in call]
    printed = folder / "printed"
    with (
        printed.open("w") as sink,
        subprocess.Popen(
            [sys.executable, "-m", "choreo", *given, "--debug"],
            cwd=folder,
            env=dict(environment, HOME=str(folder)),
            stdout=sink,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        while process.poll() is None and until not in printed.read_text():
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        for stop in (process.terminate, process.kill):
            try:
                process.wait(GOES_ON_S)
            except subprocess.TimeoutExpired:
                stop()
    return " ".join(call[:2]), printed.read_text()


def shown(environment: Mapping[str, str], folder: Path, commands: tuple[str, ...], until: str = "\n") -> dict[str, str]:
    """What each of these commands prints."""
    calls = [call for name in commands for call in CALLS[name]]
    places = [project(folder / str(number)) for number, _ in enumerate(calls)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = pool.map(lambda at: shown_by(at[0], environment, at[1], until), zip(calls, places, strict=True))
        return dict(said)


def project(folder: Path) -> Path:
    """A folder with what commands read of a project."""
    shutil.copytree(ROOT / "topics", folder / "topics")
    return folder


def no_secret_in(said: Mapping[str, str]) -> None:
    """Fail with the lines that show one, and their command."""
    found = {command: lines for command, text in said.items() if (lines := leaks(text, SECRETS))}
    assert not found, "\n".join(f"{command}: {lines[:3]}" for command, lines in found.items())


def test_every_command_is_called() -> None:
    """One that is added later is tried too."""
    assert set(CALLS) == {name for section in COMMANDS.values() for name in section}


@pytest.mark.timeout(240)
def test_servers_that_refuse(strangers: dict[str, int], tmp_path: Path) -> None:
    """Every command, against a Redis with another password and a broker that is none."""
    environment = planted(strangers)
    del environment["CHOREO_SCHEMA_REGISTRY_URL"]
    said = shown(environment, tmp_path, tuple(CALLS))
    no_secret_in(said)
    assert sum("error:" in text for text in said.values()) >= 4


@pytest.mark.timeout(120)
def test_servers_that_are_away(away: int, tmp_path: Path) -> None:
    """What a client says while it tries again, at its own debug level too."""
    ports = dict.fromkeys(("redis", "registry", "kafka"), away)
    no_secret_in(shown(planted(ports, CHOREO_KAFKA_DEBUG="security,broker,conf"), tmp_path, LOUDEST))


@pytest.mark.timeout(120)
def test_a_registry_that_refuses_and_repeats_what_it_was_sent(strangers: dict[str, int], tmp_path: Path) -> None:
    """It shows user and password, in base64 too; what is cut out of the log is seen to be cut out."""
    said = shown(planted(strangers), tmp_path, ("run",), until="schema registry")
    no_secret_in(said)
    assert "schema registry" in said["run payment"]
    assert MASK in said["run payment"]


UNREADABLE = {
    "a password that is not encoded": {"CHOREO_REDIS": f"redis://ann:{SECRETS['redis']}@localhost:6379/0"},
    "a Redis of another scheme": {"CHOREO_REDIS": f"http://ann:{quote(SECRETS['redis'], safe='')}@localhost"},
    "a Redis without a scheme": {"CHOREO_REDIS": f"ann:{SECRETS['redis']}@localhost"},
    "a Redis at a port that is none": {"CHOREO_REDIS": f"redis://:{quote(SECRETS['redis'], safe='')}@localhost:x/0"},
    "a registry that is not encoded": {"CHOREO_SCHEMA_REGISTRY_URL": f"http://ann:{SECRETS['registry']}@localhost:1"},
    "a registry's user twice": {"CHOREO_SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": f"ann:{SECRETS['registry']}"},
    "a registry's setting that is none": {"CHOREO_SCHEMA_REGISTRY_PASSWORD": SECRETS["registry"]},
    "a Kafka setting that is none": {"CHOREO_KAFKA_SASL_PASWORD": "x", "CHOREO_KAFKA_SASL_PASSWORDS": SECRETS["kafka"]},
    "a key that is none": {"CHOREO_KAFKA_SECURITY_PROTOCOL": "SSL", "CHOREO_KAFKA_SSL_KEY_PEM": SECRETS["key"]},
    "a mechanism that is none": {"CHOREO_KAFKA_SASL_MECHANISM": "NONSENSE"},
    "a token's configuration": {
        "CHOREO_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "CHOREO_KAFKA_SASL_OAUTHBEARER_CONFIG": f"secret={SECRETS['kafka']}",
    },
    "a broker with a user": {"CHOREO_KAFKA": f"ann:{SECRETS['kafka']}@localhost:1"},
}


@pytest.mark.timeout(240)
def test_settings_that_cannot_be_read(away: int, tmp_path: Path) -> None:
    """The message names the setting, and no piece of its value."""
    ports = dict.fromkeys(("redis", "registry", "kafka"), away)

    def tried(mistake: str) -> tuple[str, str]:
        environment = planted(ports, **UNREADABLE[mistake])
        if not any("REGISTRY" in name for name in UNREADABLE[mistake]):
            del environment["CHOREO_SCHEMA_REGISTRY_URL"]
        return mistake, shown_by(["list", "order"], environment, project(tmp_path / mistake))[1]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = dict(pool.map(tried, UNREADABLE))
    no_secret_in(said)
    assert all(said.values())


def test_a_file_of_settings_that_cannot_be_read(tmp_path: Path) -> None:
    """A misspelt name, or a value of another kind, is told without the value."""
    for number, line in enumerate(
        (
            f'redis_url = "redis://ann:{SECRETS["redis"]}@localhost"',
            f'redis = {{url = "redis://ann:{SECRETS["redis"]}@localhost"}}',
            f'kafka_password = "{SECRETS["kafka"]}"',
            f'port = "redis://ann:{SECRETS["redis"]}@localhost"',
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "pyproject.toml").write_text(f"[tool.choreo]\n{line}\n")
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CHOREO_KAFKA": "", "CHOREO_REDIS": ""}
        _, text = shown_by(["list"], environment, folder)
        assert "error: " in text
        no_secret_in({line: text})
