"""Passwords of Kafka, Redis and the registry stand in no output of any command, after any fault.

Every command runs as a process, with tracebacks and at debug level, against servers that are away, that refuse, that
echo their input, and under settings that cannot be read.
"""

from __future__ import annotations

import json
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
"""Seconds that a command that waits for a server goes on before the test stops it."""
AT_ONCE = 8

SECRETS = {
    "kafka": "kAfk4-hunter2 ü'x",
    "redis": "r3dIs/hun?ter2:p@ss%41#w",
    "registry": "rEg1stry+hunter2/y&z",
    "key": "kEyPhr4se-hunter2",
}

PLACED = json.dumps(
    {"order_id": "o-1", "customer_id": "ada", "amount": 1, "items": [{"sku": "tea", "quantity": 1}], "card": "visa"}
)
# Each with arguments with which it reaches for the servers.
CALLS: dict[str, list[list[str]]] = {
    "new": [["new", "shop"]],
    "demo": [["demo", "--kafka", "{kafka}", "--redis", "{redis}", "--orders", "2"]],
    "dev": [["dev", "--log-level", "debug"]],
    "run": [["run", role, "--log-level", "debug"] for role in ("payment", "tracker", "projector", "rest")],
    "publish": [["publish", "order", "OrderPlaced", "--json", PLACED]],
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
    "deploy": [["deploy", "status"]],
    "why": [["why", "o-1"]],
    "replay": [["replay", "o-1"]],
    "verify": [["verify", "order", "--limit", "10"]],
    "simulate": [["simulate", "order", "--seeds", "1"]],
    "audit": [["audit", "order"]],
    "faultmatrix": [["faultmatrix", "order", "--cell", "inventory.reserve:error:before-handler"]],
    "groups": [["groups", "order"]],
    "stalled": [["stalled", "order"]],
    "timers": [["timers", "order"]],
    "events": [["events", "order"]],
    "batch": [["batch", "list", "--flow", "order"]],
    "keys": [["keys", "list"]],
}
LOUDEST = ("run", "list", "topics", "demo", "publish")
"""Of each way to reach a server one."""


class Echo(BaseHTTPRequestHandler):
    """A registry, or a proxy in front of it, that repeats the request in its refusal."""

    def do_GET(self) -> None:
        """Refuse."""
        published = f"no {self.requestline} with {dict(self.headers)}".replace('"', "'")
        body = f'{{"error_code": 401, "message": "{published}"}}'.encode()
        self.send_response(401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the server's own name

    def log_message(self, *_what: object) -> None:
        """Say nothing."""


class Parrot(socketserver.BaseRequestHandler):
    """A server that is no Kafka: it sends back its input."""

    def handle(self) -> None:
        """Answer until the other side leaves."""
        while published := self.request.recv(4_096):
            self.request.sendall(published)


@contextmanager
def answering(server: socketserver.BaseServer) -> Iterator[int]:
    """Yield the server in a thread; its port."""
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
    """Yield a port where nobody answers, kept from others."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Yield a Redis with another password, a registry that refuses, and a broker that is none."""
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
    """Return the environment of a process that is to reach servers there, with its passwords."""
    place = f"127.0.0.1:{ports['registry']}"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CHOREO_FLOWS": "services.order_flow:order",
        "CHOREO_DEMO": "services.demo:demo",
        "CHOREO_PORT": "0",
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
    """Return a command's output, of both streams; stop it, twice if need be, once it has printed `until`."""
    places = {"{kafka}": environment["CHOREO_KAFKA"], "{redis}": environment["CHOREO_REDIS"]}
    given = [places.get(part, part) for part in call]
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
    """Return the output of each of these commands."""
    calls = [call for name in commands for call in CALLS[name]]
    places = [project(folder / str(number)) for number, _ in enumerate(calls)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        published = pool.map(lambda at: shown_by(at[0], environment, at[1], until), zip(calls, places, strict=True))
        return dict(published)


def project(folder: Path) -> Path:
    """Return a folder with the files that commands read of a project."""
    shutil.copytree(ROOT / "topics", folder / "topics")
    return folder


def no_secret_in(published: Mapping[str, str]) -> None:
    """Fail with the lines that show one, and their command."""
    found = {command: lines for command, text in published.items() if (lines := leaks(text, SECRETS))}
    assert not found, "\n".join(f"{command}: {lines[:3]}" for command, lines in found.items())


def test_every_command_is_called() -> None:
    """One that is added later is tried too."""
    assert set(CALLS) == {name for section in COMMANDS.values() for name in section}


@pytest.mark.timeout(240)
def test_servers_that_refuse(strangers: dict[str, int], tmp_path: Path) -> None:
    """Every command, against a Redis with another password and a broker that is none."""
    environment = planted(strangers)
    del environment["CHOREO_SCHEMA_REGISTRY_URL"]
    published = shown(environment, tmp_path, tuple(CALLS))
    no_secret_in(published)
    assert sum("error:" in text for text in published.values()) >= 4


WITHOUT_REDIS = ("new", "check", "schemas", "topics", "flow", "verify", "simulate", "faultmatrix", "keys")
BEHIND_KAFKA = tuple(name for name in CALLS if name not in WITHOUT_REDIS)
"""Commands that reach for Redis, once the broker has let them in."""


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("password", "commands"), [("another", tuple(CALLS)), ("redis", BEHIND_KAFKA)])
def test_a_redis_that_refuses_behind_a_broker_that_works(
    kafka: str, tmp_path: Path, password: str, commands: tuple[str, ...]
) -> None:
    """By another password, and by an access control list that lets the user do nothing."""
    (tmp_path / "redis").mkdir()
    redis = OwnRedis(tmp_path / "redis")
    redis.start()
    try:
        redis.cli("ACL", "SETUSER", "ann", "on", f">{SECRETS.get(password, password)}", "nocommands")
        environment = planted(
            {"redis": redis.port, "registry": 1, "kafka": 1},
            CHOREO_KAFKA=kafka,
            CHOREO_KAFKA_SECURITY_PROTOCOL="PLAINTEXT",
            CHOREO_KAFKA_TOPIC_PREFIX=f"secrets-{redis.port}-",
        )
        del environment["CHOREO_SCHEMA_REGISTRY_URL"]
        made = shown_by(["topics", "apply"], environment, project(tmp_path / "topics-first"))[1]
        assert "error" not in made, made
        published = shown(environment, tmp_path, commands, until="Redis at")
    finally:
        redis.stop()
    no_secret_in(published)
    met = {command.split()[0] for command, text in published.items() if "Redis at" in text}
    not_met = {command: text[-1_000:] for command, text in published.items() if command.split()[0] not in met}
    assert met >= {*BEHIND_KAFKA} - {"dlq"}, not_met


@pytest.mark.timeout(120)
def test_servers_that_are_away(away: int, tmp_path: Path) -> None:
    """The log lines of a client between its attempts, at its own debug level too."""
    ports = dict.fromkeys(("redis", "registry", "kafka"), away)
    no_secret_in(shown(planted(ports, CHOREO_KAFKA_DEBUG="security,broker,conf"), tmp_path, LOUDEST))


@pytest.mark.timeout(120)
def test_a_registry_that_refuses_and_repeats_what_it_was_sent(strangers: dict[str, int], tmp_path: Path) -> None:
    """It shows user and password, in base64 too; a cut in the log is visible."""
    published = shown(planted(strangers), tmp_path, ("run",), until="schema registry")
    no_secret_in(published)
    assert "schema registry" in published["run payment"]
    assert MASK in published["run payment"]


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
        published = dict(pool.map(tried, UNREADABLE))
    no_secret_in(published)
    assert all(published.values())


def test_a_file_of_settings_that_cannot_be_read(tmp_path: Path) -> None:
    """The error for a misspelt name, or a value of another kind, does not show the value."""
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
