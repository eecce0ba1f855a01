"""The settings that librdkafka gets, and the secrets that nobody gets."""

import pytest
from confluent_kafka import Consumer, Producer

from choreo.adapters.kafka import KafkaOptions
from choreo.adapters.kafka.options import settings_of
from choreo.adapters.kafka.producer import KafkaProducer
from choreo.adapters.kafka.records import message_of
from choreo.core.errors import SettingsError
from choreo.testing.conformance import event


def test_any_setting_comes_from_the_environment() -> None:
    """By librdkafka's own name, with `_` for `.`."""
    environment = {"CHOREO_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "CHOREO_PORT": "1", "HOME": "/"}
    assert settings_of(environment) == {"security.protocol": "SASL_SSL"}
    options = KafkaOptions.of("localhost:9092", settings_of(environment))
    for config in (options.producer(), options.consumer("g", "m", "t"), options.reader(1), options.admin()):
        assert config["security.protocol"] == "SASL_SSL"
        assert config["bootstrap.servers"] == "localhost:9092"


def test_a_preference_can_be_changed_and_each_kind_of_client_gets_its_own() -> None:
    """A consumer hears nothing of a producer's settings, for it would warn of them."""
    options = KafkaOptions.of("b:1", {"linger.ms": "20", "session.timeout.ms": "6000"})
    assert options.producer()["linger.ms"] == "20"
    assert "session.timeout.ms" not in options.producer()
    assert options.consumer("g", "m", "t")["session.timeout.ms"] == "6000"
    assert "linger.ms" not in options.consumer("g", "m", "t")


@pytest.mark.parametrize(("flows", "heartbeat_ms"), [(1, 1_000), (10, 1_000), (20, 2_000), (50, 3_333)])
def test_a_process_with_many_flows_sends_fewer_heartbeats_for_each(flows: int, heartbeat_ms: int) -> None:
    """A third of the session is the most, and a setting of one's own stands."""
    assert KafkaOptions("b:1", flows=flows).consumer("g", "m", "t")["heartbeat.interval.ms"] == heartbeat_ms
    short = KafkaOptions("b:1", {"session.timeout.ms": "6000"}, flows=flows).consumer("g", "m", "t")
    assert short["heartbeat.interval.ms"] == min(heartbeat_ms, 2_000)
    own = KafkaOptions("b:1", {"heartbeat.interval.ms": "500"}, flows=flows).consumer("g", "m", "t")
    assert own["heartbeat.interval.ms"] == "500"


def test_names_and_instances_are_taken_out_of_the_settings() -> None:
    """`topic.prefix` is choreo's own, and a static instance has to differ from topic to topic."""
    settings = {"bootstrap.servers": "b:1", "topic.prefix": "eu-", "group.instance.id": "pod-1"}
    options = KafkaOptions.of("", settings)
    assert options.bootstrap == "b:1"
    assert options.name("order") == "eu-order"
    config = options.consumer("payment", "payment-7", "order")
    assert config["group.id"] == "eu-payment"
    assert config["group.instance.id"] == "pod-1-order"
    assert "group.instance.id" not in KafkaOptions.of("b:1", {}).consumer("payment", "payment-7", "order")


@pytest.mark.parametrize(
    ("name", "value"),
    [("acks", "1"), ("enable.idempotence", "false"), ("partitioner", "consistent_random"), ("group.id", "mine")],
)
def test_what_the_promises_rest_on_cannot_be_set(name: str, value: str) -> None:
    """The error names the variable."""
    with pytest.raises(SettingsError, match=f"CHOREO_KAFKA_{name.upper().replace('.', '_')}: {name} is"):
        KafkaOptions.of("b:1", {name: value})


def test_what_is_so_anyway_may_be_said() -> None:
    """A setting at the value it has is no error."""
    assert KafkaOptions.of("b:1", {"acks": "all", "enable.idempotence": "true"}).producer()["acks"] == "all"


def test_no_broker_is_an_error() -> None:
    """With the variable that names one."""
    with pytest.raises(SettingsError, match="CHOREO_KAFKA_BOOTSTRAP_SERVERS"):
        KafkaOptions.of("", {})


async def test_a_secret_is_shown_nowhere() -> None:
    """Neither in the options' own text nor in the client's error about a setting."""
    settings = {"sasl.username": "choreo", "sasl.password": "hunter2", "ssl.key.password": "s3same"}
    options = KafkaOptions.of("b:1", settings)
    assert "hunter2" not in repr(options)
    assert "choreo" in repr(options)
    assert options.masked("login choreo/hunter2 failed, s3same") == "login choreo/*** failed, ***"
    wrong = KafkaOptions.of("b:1", {"sasl.password": "hunter2", "security.protocol": "hunter2"})
    with pytest.raises(SettingsError) as refused:
        await KafkaProducer(wrong).send("order", [message_of(event("e-1"))])
    assert "hunter2" not in str(refused.value)
    assert "security.protocol" in str(refused.value)


@pytest.mark.parametrize("size", [65_536, 1_000_000, 50_000_000, 900_000_000])
def test_the_largest_message_may_be_of_any_size_that_every_fact_fits_into(size: int) -> None:
    """Every client is made with it: a bound in bytes leaves room for one message at least."""
    options = KafkaOptions.of("localhost:1", {"message.max.bytes": str(size)})
    for config in (options.consumer("g", "m", "t"), options.reader(1 << 20), options.outsider("g")):
        Consumer(config).close()
    Producer(options.producer()).purge()
    assert options.consumer("g", "m", "t")["fetch.max.bytes"] >= size
    assert options.producer()["queue.buffering.max.kbytes"] * 1_024 >= size


def test_a_size_that_is_no_number_is_an_error() -> None:
    """With the variable that it comes from."""
    with pytest.raises(SettingsError, match="CHOREO_KAFKA_MESSAGE_MAX_BYTES"):
        KafkaOptions.of("localhost:1", {"message.max.bytes": "large"}).producer()
