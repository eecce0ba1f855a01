"""Topics as code: declared topics are made, differences are shown, and nothing is lost or reordered unasked."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.topics import (
    Action,
    Change,
    Found,
    Role,
    TopicAdmin,
    Wanted,
    changelog_of,
    changes,
    refuse,
    wanted_topics,
)
from choreo.adapters.topics_yaml import load_topic, load_topics
from choreo.cli.program import run
from choreo.core.errors import ConflictError, SettingsError, StorageError

ORDER = """\
name: order
key: order_id
partitions: {partitions}
retention: {retention}
owner: orders-team
events: [Placed]
dead_letters:
  name: order.dead-letters
"""
DAY_MS = 86_400_000


def declared(folder: Path, *, partitions: int = 4, retention: str = "forever") -> list[Wanted]:
    """Return the topics of one file."""
    (folder / "order.yaml").write_text(ORDER.format(partitions=partitions, retention=retention))
    return wanted_topics(load_topics(folder).values())


def as_declared(wanted: list[Wanted]) -> dict[str, Found]:
    """Return a cluster that has just that."""
    return {each.name: Found(each.partitions, each.settings) for each in wanted}


def printed(change: Change) -> tuple[str, str, str, str, str]:
    """Return the parts of a change, without its note."""
    return change.action, change.topic, change.what, change.here, change.declared


def test_a_flow_has_three_topics(tmp_path: Path) -> None:
    """Events that keep everything under the broker's stamps; dead letters; a changelog with as many partitions."""
    events, dead_letters, changelog = declared(tmp_path)
    assert (events.name, events.role, events.partitions) == ("order", Role.EVENTS, 4)
    assert events.settings == {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
    }
    assert (dead_letters.name, dead_letters.partitions) == ("order.dead-letters", 1)
    assert (changelog.name, changelog.partitions) == ("choreo-order-tracker-states-changelog", 4)
    assert changelog.settings["cleanup.policy"] == "compact"
    assert changelog.settings["min.compaction.lag.ms"] == str(DAY_MS)


def test_with_copies_an_acknowledged_event_survives_the_loss_of_a_broker(tmp_path: Path) -> None:
    """acks=all waits for two of three."""
    declared(tmp_path)
    for each in wanted_topics(load_topics(tmp_path).values(), copies=3):
        assert each.settings["min.insync.replicas"] == "2"


def test_dead_letters_under_another_name_are_refused(tmp_path: Path) -> None:
    """They would be written where nobody made a topic."""
    path = tmp_path / "order.yaml"
    path.write_text(ORDER.format(partitions=4, retention="forever").replace("order.dead-letters", "graveyard"))
    with pytest.raises(SettingsError, match=r"Write name: order\.dead-letters"):
        wanted_topics([load_topic(path)])


def test_a_cluster_that_is_as_declared_has_no_difference(tmp_path: Path) -> None:
    """And nothing to do."""
    wanted = declared(tmp_path)
    assert changes(wanted, as_declared(wanted)) == []


def test_a_count_of_partitions_is_never_changed(tmp_path: Path) -> None:
    """Keys would move; the remedy names the count to write."""
    found = as_declared(declared(tmp_path, partitions=4))
    refused = changes(declared(tmp_path, partitions=8), found)
    assert [printed(change) for change in refused] == [
        (Action.REFUSE, "order", "partitions", "4", "8"),
        (Action.REFUSE, changelog_of("order"), "partitions", "4", "8"),
    ]
    with pytest.raises(ConflictError, match="Write partitions: 4"):
        refuse(refused, allow_destroy=True)


@pytest.mark.parametrize(
    ("setting", "here", "retention", "destroys"),
    [
        ("retention.ms", "-1", "30d", True),
        ("retention.ms", str(60 * DAY_MS), "30d", True),
        ("retention.ms", str(10 * DAY_MS), "30d", False),
        ("retention.ms", str(10 * DAY_MS), "forever", False),
        ("message.timestamp.type", "CreateTime", "forever", False),
    ],
)
def test_only_what_lets_records_go_needs_leave(
    setting: str, here: str, retention: str, destroys: bool, tmp_path: Path
) -> None:
    """To keep less is to destroy; to keep more is not."""
    wanted = declared(tmp_path, retention=retention)
    found = as_declared(wanted)
    found["order"] = Found(4, {**wanted[0].settings, setting: here})
    (change,) = changes(wanted, found)
    assert (change.action, change.what, change.destroys) == (Action.SET, setting, destroys)
    if destroys:
        with pytest.raises(ConflictError, match="--allow-destroy"):
            refuse([change], allow_destroy=False)
    refuse([change], allow_destroy=destroys)


@pytest.mark.parametrize(("here", "destroys"), [("delete", True), ("compact,delete", False)])
def test_to_compact_what_was_not_compacted_destroys(here: str, destroys: bool, tmp_path: Path) -> None:
    """All but the newest record of each key goes."""
    wanted = declared(tmp_path)
    found = as_declared(wanted)
    found[changelog_of("order")] = Found(4, {**wanted[2].settings, "cleanup.policy": here})
    (change,) = changes(wanted, found)
    assert (change.what, change.destroys) == ("cleanup.policy", destroys)


def test_a_setting_that_no_file_names_is_shown_and_left(tmp_path: Path) -> None:
    """An operator's throttle during a move of replicas is not ours to take away."""
    wanted = declared(tmp_path)
    found = as_declared(wanted)
    found["order"] = Found(4, {**wanted[0].settings, "segment.bytes": "1048576"}, frozenset({"segment.bytes"}))
    (change,) = changes(wanted, found)
    assert printed(change) == (Action.LEAVE, "order", "segment.bytes", "1048576", "")


def test_a_flow_that_is_gone_is_seen_by_its_changelog_and_removed_only_by_name(tmp_path: Path) -> None:
    """Another project's flow on the same cluster looks the same: only its owner can tell them apart."""
    wanted = declared(tmp_path)
    old = {"old": Found(2, {}), "old.dead-letters": Found(1, {}), changelog_of("old"): Found(2, {})}
    found = {**as_declared(wanted), **old}
    (seen,) = changes(wanted, found)
    assert (seen.action, seen.topic) == (Action.LEAVE, changelog_of("old"))
    gone = changes(wanted, found, removed=["old"])
    assert [(change.action, change.topic) for change in gone] == [(Action.REMOVE, name) for name in old]
    with pytest.raises(ConflictError, match="would be deleted"):
        refuse(gone, allow_destroy=False)
    with pytest.raises(SettingsError, match="Remove its file first"):
        changes(wanted, found, removed=["order"])


# On a real broker, as a user calls it.

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prefix() -> str:
    """Return the prefix of topics that no other test has."""
    return f"test-{uuid.uuid4().hex[:8]}-"


@pytest.fixture
def cli(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """Return a call of `choreo topics` in a project with this topic: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHOREO_KAFKA", kafka)
    monkeypatch.setenv("CHOREO_KAFKA_TOPIC_PREFIX", prefix)
    (tmp_path / "topics").mkdir()

    def called(*arguments: str, partitions: int = 4, retention: str = "forever") -> tuple[int, str, str]:
        declared(tmp_path / "topics", partitions=partitions, retention=retention)
        code = run(["topics", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


def listed(out: str) -> list[tuple[str, str, str, str, str]]:
    """Return the changes of an answer in JSON."""
    return [
        (change["action"], change["topic"], change["what"], change["here"], change["declared"])
        for change in json.loads(out)["changes"]
    ]


def test_what_is_planned_is_what_is_applied_once(kafka: str, prefix: str, cli: Cli) -> None:
    """Plan shows it, apply makes it, a second apply has nothing to do, and the broker's own tools see it."""
    code, planned, _ = cli("plan", "-o", "json")
    assert code == 0
    assert [change[:2] for change in listed(planned)] == [
        ("create", "order"),
        ("create", "order.dead-letters"),
        ("create", changelog_of("order")),
    ]
    assert cli("apply", "-o", "json")[:2] == (0, planned)
    assert cli("apply")[:2] == (0, "Nothing to do.\n")
    assert cli("diff")[:2] == (0, "3 topics are as declared.\n")
    made = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    counts = {name.removeprefix(prefix): len(made[name].partitions) for name in made if name.startswith(prefix)}
    assert counts == {"order": 4, "order.dead-letters": 1, changelog_of("order"): 4}


def test_drift_is_shown_and_taken_back(kafka: str, prefix: str, cli: Cli) -> None:
    """Somebody changed two settings by hand: one that is declared, and one that is not."""
    cli("apply")
    by_hand(kafka, f"{prefix}order", {"retention.ms": "3600000", "segment.bytes": "1048576"})
    code, out, _ = cli("diff", "-o", "json")
    shown = listed(out)
    assert (code, shown) == (
        1,
        [("set", "order", "retention.ms", "3600000", "-1"), ("leave", "order", "segment.bytes", "1048576", "")],
    )
    assert listed(cli("apply", "-o", "json")[1]) == shown[:1]
    assert listed(cli("diff", "-o", "json")[1]) == shown[1:]


def test_a_live_topic_keeps_its_count(cli: Cli) -> None:
    """Refused before anything is done, with any other change beside it; with the remedy, and as a conflict."""
    cli("apply")
    code, out, _ = cli("plan", partitions=8, retention="30d")
    assert code == 1
    assert "apply would refuse: topic 'order': its partitions would change from 4 to 8" in out
    code, _, err = cli("apply", "--allow-destroy", partitions=8, retention="30d")
    assert code == 5
    assert "Write partitions: 4" in err
    assert cli("diff")[0] == 0, "nothing was changed"


def test_nothing_is_destroyed_without_leave(cli: Cli, tmp_path: Path) -> None:
    """Neither by keeping less nor by taking a flow away."""
    cli("apply")
    code, _, err = cli("apply", retention="30d")
    assert code == 5
    assert "retention.ms=2592000000" in err
    assert "--allow-destroy" in err
    assert cli("apply", "--allow-destroy", retention="30d")[0] == 0
    code, _, err = cli("apply", "--remove", "order", retention="30d")
    assert (code, "Remove its file first" in err) == (2, True)


async def test_a_flow_is_removed_by_name(kafka: str, prefix: str, tmp_path: Path) -> None:
    """All it had goes, and nothing else."""
    admin, wanted = TopicAdmin(KafkaOptions(kafka, prefix=prefix)), declared(tmp_path)
    await admin.apply(wanted, changes(wanted, await admin.find(wanted)))
    gone = changes([], await admin.find([], ["order"]), ["order"])
    assert [change.action for change in gone] == [Action.REMOVE] * 3
    await admin.apply([], gone, ["order"])
    assert await admin.find([], ["order"]) == {}


async def test_only_what_was_planned_is_done_and_waited_for(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A process that makes missing topics leaves drift to `choreo topics`; of two that make it one is first."""
    admin = TopicAdmin(KafkaOptions(kafka, prefix=prefix))
    first, *rest = declared(tmp_path, partitions=2)
    await admin.apply([first], changes([first], await admin.find([first])))
    wanted = declared(tmp_path, partitions=4)
    missing = [each for each in changes(wanted, await admin.find(wanted)) if each.action is Action.CREATE]
    await asyncio.gather(
        admin.apply(wanted, missing), TopicAdmin(KafkaOptions(kafka, prefix=prefix)).apply(wanted, missing)
    )
    assert [each.topic for each in missing] == [each.name for each in rest]
    assert [each.action for each in changes(wanted, await admin.find(wanted))] == [Action.REFUSE]


async def test_a_cluster_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address that was tried."""
    monkeypatch.setattr("choreo.adapters.kafka.topics.REQUEST_S", 0.5)
    admin = TopicAdmin(KafkaOptions("localhost:9"))
    with pytest.raises(StorageError, match="localhost:9"):
        await admin.find(declared(tmp_path))


def by_hand(kafka: str, topic: str, settings: dict[str, str]) -> None:
    """Change a topic's settings past choreo; returns when the broker shows them, a moment after it took them."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    for _ in range(1_000):  # each look is a round trip
        (shown,) = (future.result() for future in admin.describe_configs([resource]).values())
        if all(shown[name].value == value for name, value in settings.items()):
            return
    pytest.fail(f"the broker does not show {settings} on {topic}")
