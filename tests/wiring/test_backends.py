"""The table of backends and stores: every line leads to a module that keeps the port, and the settings choose."""

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.core.errors import NotFoundError, SettingsError
from choreo.ports.backend import Backend, OpenStores, StatefulBackend
from choreo.settings import Settings, load
from choreo.testing.clock import VirtualClock
from choreo.wiring import App, open_app
from choreo.wiring.backends import BACKENDS, MEMORY, STORES, chosen, open_backend
from choreo.wiring.hosting import KINDS, calm_s, role_hosts


class Asked(Event):
    """A question came in."""

    key: str


class Answered(Event):
    """It was answered."""

    key: str


desk = Service("desk")


@desk.step(on=Asked, emits=Answered, effect=False)
def answer(event: Asked, ctx: StepContext) -> Answered:
    """Answer it."""
    return Answered(key=event.key)


asking = Flow("asking", key="key", starts=Asked, completes=Answered, services=[desk])


async def opened(settings: Settings, *, memory: bool = False) -> Backend:
    """Return the backend that these settings choose."""
    clock = VirtualClock()
    definitions = {asking.name: asking.definition}
    return await open_backend(settings, definitions, clock, DependencyReports(clock), Metrics().put, memory=memory)


@pytest.mark.parametrize("module", [*BACKENDS.values(), MEMORY])
def test_every_backend_of_the_table_can_be_opened(module: str) -> None:
    """The table holds text: a name that is wrong is found here."""
    assert list(signature(import_module(module).open_backend).parameters) == ["options"]


@pytest.mark.parametrize(("setting", "module"), STORES.items())
def test_every_store_of_the_table_can_be_opened(setting: str, module: str) -> None:
    """Its function takes the address, and then the port's arguments."""
    takes = list(signature(import_module(module).open_stores).parameters)
    assert takes == ["url", *list(signature(OpenStores.__call__).parameters)[1:]]
    assert setting in Settings.model_fields


def test_the_first_setting_with_a_value_chooses(tmp_path: Path) -> None:
    """A file is always named; brokers come before it."""
    assert chosen(load(database=tmp_path / "choreo.db")) == "database"
    assert chosen(load(kafka="localhost:9092")) == "kafka"


async def test_the_embedded_backends_keep_the_port(tmp_path: Path) -> None:
    """Both have topics, a codec and a tracker, and nothing that is shared with others."""
    for memory in (True, False):
        backend = await opened(load(database=tmp_path / "choreo.db", partitions=3), memory=memory)
        stateful: StatefulBackend = backend  # type: ignore[assignment]
        assert await backend.log.partitions("asking") == 3
        assert dict(backend.roles) == {"tracker": "log"}
        assert await stateful.states.load("asking", 0, ["k-1"]) == {}
        assert (await backend.codec([])).content_type
        with pytest.raises(SettingsError, match="this needs Kafka"):
            await backend.adopt("asking", same_records=False)
        await backend.discard()
        await backend.create_topics()
        await backend.close()


async def test_two_places_for_one_inbox_are_refused() -> None:
    """The message names both settings, and shows neither address."""
    redis, postgres = "redis://u:s3cret@localhost/0", "postgresql://u:s3cret@localhost/d"
    with pytest.raises(SettingsError, match="redis and postgres are both set") as caught:
        await opened(load(kafka="localhost:9092", redis=redis, postgres=postgres))
    assert "Keep one of CHOREO_REDIS, CHOREO_POSTGRES" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_log_on_kafka_without_stores_is_refused() -> None:
    """With a way to name each kind of them."""
    with pytest.raises(SettingsError, match=r"CHOREO_REDIS=redis://.*CHOREO_POSTGRES=postgresql://"):
        await opened(load(kafka="localhost:9092"))


async def test_a_role_that_a_backend_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the roles that it has; every kind of host that a backend may name can be made."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    settings = load(flows=("test_backends:asking",), database=tmp_path / "choreo.db")
    async with open_app(settings, memory=True) as app:
        assert isinstance(app, App)
        assert [host.polled_ms for host in role_hosts(app, "tracker")] == [0]
        with pytest.raises(NotFoundError, match=r"this backend has no projector.*Its roles are: tracker"):
            role_hosts(app, "projector")
    kafka = import_module(BACKENDS["kafka"]).KafkaBackend
    assert {*kafka.roles.values(), "log"} == set(KINDS)


@pytest.mark.parametrize(
    ("own_s", "hosts", "waits_s"), [(0.25, 6, 0.25), (0.25, 25, 1.0), (0.25, 500, 2.0), (3, 50, 3)]
)
def test_idle_hosts_of_many_flows_poll_less_often_each(own_s: float, hosts: int, waits_s: float) -> None:
    """All of them together poll 25 times a second; none waits longer than a quiet consumer's thread for that."""
    assert calm_s(own_s, hosts) == waits_s
