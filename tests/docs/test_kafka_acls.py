"""The rules of docs/how-to/kafka-acls.md are enough: with them, and not before, an order runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import required
from tests.support.kafka import MissingError, free_ports
from tests.support.reader import Reader, blocks_of
from tests.support.redis_server import OwnRedis
from tests.support.secure_kafka import PASSWORD, USER, SecureBroker

ROOT = Path(__file__).parents[2]
RULES = [block.text for block in blocks_of(ROOT / "docs" / "how-to" / "kafka-acls.md") if block.argument == "acls"]
# A client without a name is the cluster's administrator: the test itself, through the plain listener.
ASKS = """
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SecureBroker]:
    """Yield a broker that lets nobody do anything but by a rule."""
    required.needed("faust", "faust")
    try:
        broker = SecureBroker(tmp_path / "kafka", more=ASKS)
        broker.start()
    except MissingError as missing:
        required.absent(f"tests on real Kafka need {missing}")
    broker.add_user("deployer")
    yield broker
    broker.stop()


@pytest.fixture
def operator(tmp_path: Path, broker: SecureBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Yield an operator with a project, the tools of Kafka and the settings that the page names."""
    redis = OwnRedis(tmp_path_factory.mktemp("redis"))
    redis.start()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, call in (
        ("choreo", [sys.executable, "-m", "choreo"]),
        ("kafka-acls", broker.tool("org.apache.kafka.tools.AclCommand")),
    ):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(call)} "$@"\n')
        (programs / name).chmod(0o755)
    variables = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "CHOREO_PORT": str(free_ports(1)[0]),
        "CHOREO_KAFKA": broker.by_password,
        "CHOREO_KAFKA_TOPIC_PREFIX": "shop-",
        "CHOREO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "CHOREO_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "CHOREO_KAFKA_SASL_USERNAME": USER,
        "CHOREO_KAFKA_SASL_PASSWORD": PASSWORD,
        "CHOREO_KAFKA_SSL_CA_LOCATION": str(broker.authority.file),
        "CHOREO_REDIS": redis.url,
    }
    reader = Reader(tmp_path, variables, {"localhost:9092": broker.bootstrap})
    yield reader
    reader.leaves()
    redis.stop()


def test_the_pages_rules_let_an_order_run(operator: Reader) -> None:
    """Nothing without rules; then the deployer makes the topics, and one user runs every role."""
    operator.types("choreo new shop --template order")
    operator.goes_to("shop")
    operator.types("choreo topics init")
    refused = operator.types("CHOREO_KAFKA_SASL_USERNAME=deployer choreo topics apply", fails=True)
    assert "Created" not in refused
    assert "error:" in refused

    assert len(RULES) == 2
    for rules in RULES:
        operator.types(rules)
    operator.types("CHOREO_KAFKA_SASL_USERNAME=deployer choreo topics apply")
    operator.starts("choreo dev")
    operator.types(
        "choreo publish order OrderPlaced --field order_id=o-1 --field article=lamp --field quantity=1"
        " --field amount=49.90"
    )
    operator.sees("choreo show o-1", "order o-1 completed")
