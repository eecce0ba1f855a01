"""The checks of a process on Kafka before it works: topics that keep a run from its start to its end."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.backend import fit
from choreo.core.definition import FlowDefinition
from choreo.core.errors import SettingsError
from services.order_flow import order
from tests.adapters.kafka.conftest import OpenLog
from tests.adapters.kafka.test_foreign import make_topic
from tests.support.kafka import free_ports
from tests.support.patience import PATIENCE_S

DAY_MS = 86_400_000
ROOT = Path(__file__).parents[3]


async def opened(log: KafkaLog, kafka: str, **settings: str) -> asyncio.Event:
    """A topic of the flow with these settings, which the broker knows; and a stop that nobody gives."""
    name = log.options.name("order")
    await asyncio.to_thread(make_topic, kafka, name, message_timestamp_type="LogAppendTime", **settings)
    admin = AdminClient({"bootstrap.servers": kafka})
    async with asyncio.timeout(PATIENCE_S):
        while name not in (await asyncio.to_thread(admin.list_topics, timeout=5)).topics:
            pass
    return asyncio.Event()


@pytest.fixture
def flow() -> FlowDefinition:
    """Return two days until it ends, and a week that it lingers."""
    return order.definition


async def test_a_topic_that_keeps_everything_is_fit(kafka: str, open_log: OpenLog, flow: FlowDefinition) -> None:
    """So is one that keeps a run for as long as it may last and linger."""
    log = open_log()
    assert await fit(log, [flow], await opened(log, kafka, retention_ms="-1"))
    month = KafkaLog(KafkaOptions(kafka, prefix=f"{log.options.prefix}month-"))
    assert await fit(month, [flow], await opened(month, kafka, retention_ms=str(31 * DAY_MS)))
    await month.close()


@pytest.mark.parametrize(("kept_days", "deadline_days", "says"), [(3, 2, "Write at least"), (400, 0, "no deadline")])
async def test_a_topic_that_forgets_too_soon_is_refused(
    kafka: str, open_log: OpenLog, flow: FlowDefinition, kept_days: int, deadline_days: int, says: str
) -> None:
    """Deadline, the bound of its end and linger must fit; without a deadline nothing does."""
    log = open_log()
    stop = await opened(log, kafka, retention_ms=str(kept_days * DAY_MS))
    with pytest.raises(SettingsError, match=says) as refused:
        await fit(log, [replace(flow, deadline_ms=deadline_days * DAY_MS)], stop)
    assert "topic 'order', retention.ms" in str(refused.value)


async def test_a_process_ends_with_the_remedy(kafka: str, open_log: OpenLog) -> None:
    """It has taken no partition by then."""
    log = open_log()
    await opened(log, kafka, retention_ms=str(DAY_MS))
    settings = {
        "CHOREO_FLOWS": "services.order_flow:order",
        "CHOREO_KAFKA": kafka,
        "CHOREO_KAFKA_TOPIC_PREFIX": log.options.prefix,
        "CHOREO_REDIS": "redis://localhost:1/0",
        "PATH": "/usr/bin:/bin",
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "choreo", "run", "inventory"],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "the topic forgets after 1d" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert "assigned partitions" not in ended.stderr


async def test_a_cluster_that_is_away_is_waited_for_until_the_stop(flow: FlowDefinition) -> None:
    """Nothing starts then."""
    log, stop = KafkaLog(KafkaOptions(f"localhost:{free_ports(1)[0]}", request_s=0.2)), asyncio.Event()
    waiting = asyncio.create_task(fit(log, [flow], stop))
    done, _ = await asyncio.wait((waiting,), timeout=0.5)
    assert not done
    stop.set()
    assert await waiting is False
    await log.close()
