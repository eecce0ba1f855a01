"""A cluster with authentication: everything works by settings alone, and no secret is shown to anybody."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from choreo.settings import load
from choreo.wiring import open_app
from tests.kafka.conftest import Servers
from tests.kafka.everything import running
from tests.kafka.harness import Harness
from tests.kafka.test_long_handlers import until
from tests.support import required
from tests.support.fleet import FLOWS, ROOT, Fleet, Worker
from tests.support.kafka import MissingError
from tests.support.secure_kafka import KEY_PASSWORD, PASSWORD, USER, SecureBroker

WRONG = "tr0ub4dor-and-3"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """Yield a broker of this module's own."""
    try:
        broker = SecureBroker(tmp_path_factory.mktemp("secure"))
        broker.start()
    except MissingError as missing:
        required.absent(f"tests on real Kafka need {missing}")
    yield broker
    broker.stop()


def by_password(broker: SecureBroker, password: str = PASSWORD) -> dict[str, str]:
    """Return settings of a client with a password."""
    return {
        "CHOREO_KAFKA": broker.by_password,
        "CHOREO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "CHOREO_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "CHOREO_KAFKA_SASL_USERNAME": USER,
        "CHOREO_KAFKA_SASL_PASSWORD": password,
        "CHOREO_KAFKA_SSL_CA_LOCATION": str(broker.authority.file),
    }


def by_certificate(broker: SecureBroker) -> dict[str, str]:
    """Return settings of a client with a certificate."""
    certificate, key = broker.authority.issue("client", KEY_PASSWORD)
    return {
        "CHOREO_KAFKA": broker.by_certificate,
        "CHOREO_KAFKA_SECURITY_PROTOCOL": "SSL",
        "CHOREO_KAFKA_SSL_CA_LOCATION": str(broker.authority.file),
        "CHOREO_KAFKA_SSL_CERTIFICATE_LOCATION": str(certificate),
        "CHOREO_KAFKA_SSL_KEY_LOCATION": str(key),
        "CHOREO_KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
    }


def installation(servers: Servers, folder: Path, kafka: Mapping[str, str]) -> dict[str, str]:
    """Return settings of an installation of this test's own."""
    return {
        **kafka,
        "CHOREO_FLOWS": FLOWS,
        "CHOREO_KAFKA_TOPIC_PREFIX": f"test-{uuid.uuid4().hex[:8]}-",
        "CHOREO_REDIS": servers.redis,
        "CHOREO_DATA": str(folder / "data"),
        "CHOREO_BOOKS_DIR": str(folder / "books"),
    }


def choreo(settings: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        [sys.executable, "-m", "choreo", *arguments],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def hushed(*texts: str) -> bool:
    """Return whether no secret stands in any of these."""
    return not any(secret in text for secret in (PASSWORD, KEY_PASSWORD, WRONG) for text in texts)


@pytest.mark.parametrize("door", [by_password, by_certificate])
async def test_settings_alone_open_the_door(
    broker: SecureBroker, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: object
) -> None:
    """Topics are made, a service works, the tracker starts compensation: each by the clients it has."""
    assert callable(door)
    settings = installation(servers, tmp_path, door(broker))
    monkeypatch.chdir(ROOT)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = choreo(settings, "topics", "apply")
    assert made.returncode == 0, made.stderr
    fleet = Fleet(tmp_path, settings)
    try:
        workers = fleet.start("inventory"), fleet.start("tracker")
        async with open_app(load()) as app:
            harness = Harness(app, fleet, tmp_path / "books")
            await harness.place("o-1", items=[{"sku": "none", "quantity": 1}])
            await harness.until(lambda: harness.published("choreo.FlowCompensated", ["o-1"]), "the order is undone")
        for worker in workers:
            await harness.stop(worker)
    finally:
        fleet.kill_all()
    assert hushed(made.stdout, made.stderr, *(worker.output.read_text() for worker in workers))


async def test_a_wrong_password_is_told_with_its_remedy(broker: SecureBroker, servers: Servers, tmp_path: Path) -> None:
    """By a command that ends with it, and by processes that wait for somebody to set it right."""
    settings = installation(servers, tmp_path, by_password(broker, WRONG))
    refused = choreo(settings, "topics", "apply")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "CHOREO_KAFKA_SASL_" in refused.stderr, refused.stderr
    assert hushed(refused.stdout, refused.stderr)
    fleet = Fleet(tmp_path, settings)
    try:
        await told(fleet, fleet.start("inventory"), fleet.start("tracker"))
    finally:
        fleet.kill_all()


async def test_who_shows_no_certificate_is_told(broker: SecureBroker, servers: Servers, tmp_path: Path) -> None:
    """With the settings that name one."""
    kafka = {
        name: value
        for name, value in by_certificate(broker).items()
        if "CERTIFICATE" not in name and "KEY_" not in name
    }
    refused = choreo(installation(servers, tmp_path, kafka), "topics", "apply")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "CHOREO_KAFKA_SSL_" in refused.stderr, refused.stderr


async def test_a_right_that_is_taken_and_given_back(
    broker: SecureBroker, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every role reports that it may not use the topic, and goes on by itself when it may again."""
    settings = installation(servers, tmp_path, by_password(broker))
    monkeypatch.chdir(ROOT)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    async with open_app(load()) as app:
        await app.backend.create_topics()
        harness = Harness(app, Fleet(tmp_path, settings), tmp_path / "books")
        async with running(harness, monkeypatch) as everyone:
            await harness.place("before", card="declined")
            await harness.until(lambda: everyone.stand(["before"], "compensated"), "an order ends")
            # A state that is refused in the middle of its write ends the tracker: its caller starts it again.
            await harness.until(everyone.is_caught_up, "no state is still to be written")
            with broker.refusing(settings["CHOREO_KAFKA_TOPIC_PREFIX"]):
                for name in ("service payment in order", "projector of order", "tracker of order"):
                    await harness.until(partial(everyone.reports, name), f"{name} is reported")
                report = (await everyone.unavailable())["service payment in order"]
                assert "refuses" in report["cause"]
                assert "the rights of this user" in report["remedy"]
            await harness.place("after", card="declined")
            await harness.until(lambda: everyone.stand(["after"], "compensated"), "orders end again", 90)
            await harness.until(everyone.is_ready, "there is nothing to report any more")


async def told(fleet: Fleet, *workers: Worker) -> None:
    """Check that each of these names the setting to change, and goes on waiting."""
    await until(
        lambda: all("CHOREO_KAFKA_SASL_" in worker.output.read_text() for worker in workers), "the remedy is said"
    )
    assert fleet.died() == []
    assert hushed(*(worker.output.read_text() for worker in workers))
    assert not any("Traceback" in worker.output.read_text() for worker in workers)
