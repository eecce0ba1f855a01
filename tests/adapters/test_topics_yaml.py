"""Topics as code: the error for a file with too little, too much or a wrong value has line and remedy."""

from pathlib import Path

import msgspec
import pytest

from choreo.adapters.topics_yaml import FOREVER, Topic, check_topics, load_topic, load_topics
from choreo.core.definition import CompensationDefinition, FlowDefinition, StepDefinition
from choreo.core.errors import SettingsError

GOOD = """\
name: order
key: order_id
partitions: 8
retention: 30d
owner: orders-team
events:
  - Placed
  - Paid
dead_letters:
  name: order.dead-letters
"""

DAY_MS = 86_400_000

FLOW = FlowDefinition(
    name="order",
    key="order_id",
    starts="Placed",
    completes="Paid",
    steps=(
        StepDefinition(
            name="payment.charge",
            service="payment",
            on="Placed",
            emits=("Paid",),
            fails=(),
            timeout_ms=1_000,
            deadline_ms=DAY_MS,
            compensation=CompensationDefinition(
                emits=(), takes_none=True, bars=True, timeout_ms=1_000, deadline_ms=2 * DAY_MS
            ),
        ),
    ),
    deadline_ms=3 * DAY_MS,
    linger_ms=7 * DAY_MS,
    events={"Placed": ("order_id",), "Paid": ("order_id",)},
)


def written(folder: Path, text: str, name: str = "order.yaml") -> Path:
    """Return the text as a file."""
    path = folder / name
    path.write_text(text)
    return path


def topic(folder: Path, text: str = GOOD) -> dict[str, Topic]:
    """Return the topics of one file."""
    written(folder, text)
    return load_topics(folder)


def test_a_topic_says_everything_a_broker_and_a_reader_need(tmp_path: Path) -> None:
    """Settings that the dead letters' topic leaves out have a default."""
    read = load_topic(written(tmp_path, GOOD))
    assert (read.name, read.key, read.partitions, read.owner) == ("order", "order_id", 8, "orders-team")
    assert read.events == ("Placed", "Paid")
    assert read.retention_ms == 30 * DAY_MS
    assert (read.dead_letters.partitions, read.dead_letters.retention) == (1, FOREVER)


@pytest.mark.parametrize("line", ["", "retention: forever\n", "retention: -1\n"])
def test_a_log_keeps_everything_by_default(line: str, tmp_path: Path) -> None:
    """And can say so in a word or in Kafka's number."""
    assert load_topic(written(tmp_path, GOOD.replace("retention: 30d\n", line))).retention_ms == FOREVER


BAD = [
    (GOOD.replace("name: order\n", "name: [order\n"), ":2: is not YAML: expected ',' or ']'"),
    (GOOD.replace("key: order_id\n", ""), ": object missing required field `key`. A topic has name, key"),
    (GOOD.replace("partitions: 8", "partitions: eight"), ":3 partitions: expected `int`, got `str`"),
    (GOOD.replace("partitions: 8", "partitions: 0"), ":3 partitions: 0 partitions. Use 1 to 4000"),
    (GOOD.replace("partitions: 8", "partitions: 1000000"), ":3 partitions: 1000000 partitions"),
    (GOOD.replace("partitions: 8", "partitions: true"), ":3 partitions: expected `int`, got `bool`"),
    (
        GOOD.replace("retention: 30d", "retention: a month"),
        ":4 retention: 'a month' is not a duration. Write \"forever\"",
    ),
    (GOOD.replace("retention: 30d", "retention: -5"), ":4 retention: -5 is not a duration"),
    (GOOD.replace("retention: 30d", "retention: 0s"), ":4 retention: '0s' keeps nothing"),
    (GOOD.replace("owner: orders-team", "owner: ''"), ":5 owner: is empty. Name the key's field, and the team"),
    (GOOD.replace("owner:", "ovner:"), ":5 ovner: object contains unknown field `ovner`. A topic has name"),
    (GOOD.replace("name: order\n", "name: 'my order'\n"), ":1 name: 'my order' cannot be a topic's name. Use letters"),
    (GOOD.replace("name: order\n", "name: ..\n"), ":1 name: '..' cannot be a topic's name"),
    (
        GOOD.replace("order.dead-letters", "order"),
        ":10 dead_letters.name: is the topic itself. Call it order.dead-letters",
    ),
    (GOOD.replace("order.dead-letters", "dead letters"), ":10 dead_letters.name: 'dead letters' cannot be"),
    (GOOD.replace("  - Paid", "  - Placed"), ":6 events: Placed stands there twice. List each event once"),
    (GOOD.replace("  - Paid", "  - 5"), ":6 events[1]: expected `str`, got `int`"),
    (GOOD.replace("  - Placed\n  - Paid\n", "  []\n"), ":6 events: is empty. List the events of the flow"),
    (GOOD + "key: other\n", ":11: key stands here a second time, first in line 2. Keep one of the two"),
    ("", ": expected `object`, got `null`"),
    ("- order\n", ": expected `object`, got `array`"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=[case[1][:50] for case in BAD])
def test_a_file_declared_wrong_is_named_with_line_field_and_remedy(text: str, sentence: str, tmp_path: Path) -> None:
    """So that it is corrected without reading our source."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load_topic(path)
    assert refused.value.sentence.startswith(f"{path}{sentence}")
    assert refused.value.remedy


def test_two_files_do_not_declare_one_topic(tmp_path: Path) -> None:
    """Neither would be right."""
    written(tmp_path, GOOD)
    written(tmp_path, GOOD.replace("order.dead-letters", "other"), "second.yaml")
    with pytest.raises(SettingsError, match=r"second\.yaml: order is declared in .*order\.yaml too\. Keep one"):
        load_topics(tmp_path)


def test_a_missing_folder_and_a_file_of_other_bytes_are_named(tmp_path: Path) -> None:
    """Both are errors, not an empty set of topics."""
    with pytest.raises(SettingsError, match="there is no such folder"):
        load_topics(tmp_path / "none")
    (tmp_path / "order.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"order\.yaml: cannot be read"):
        load_topics(tmp_path)


def test_a_flow_with_its_topic_fits(tmp_path: Path) -> None:
    """30 days are more than the 13 a run can need."""
    assert check_topics([FLOW], topic(tmp_path)) == []


MISFITS = [
    (GOOD.replace("name: order\n", "name: orders\n"), FLOW, "flow order has no topic. Write it: choreo topics init"),
    (GOOD.replace("  - Paid\n", ""), FLOW, "events: event Paid of flow order has no topic. Add - Paid"),
    (GOOD.replace("  - Paid\n", "  - Paid\n  - Sent\n"), FLOW, "events: event Sent is not in flow order. Take it out"),
    (
        GOOD.replace("key: order_id", "key: id"),
        FLOW,
        "key: its key is id, but flow order is keyed by order_id. Write key",
    ),
    (
        GOOD,
        msgspec.structs.replace(FLOW, deadline_ms=0),
        "retention: the topic forgets after 30d, but flow order has no deadline. Give the flow a deadline",
    ),
    (
        GOOD.replace("30d", "12d"),
        FLOW,
        "retention: the topic forgets after 12d, but a run of flow order may need its start for 13d",
    ),
]


@pytest.mark.parametrize(("text", "flow", "sentence"), MISFITS, ids=[case[2][:40] for case in MISFITS])
def test_a_topic_that_does_not_fit_its_flow_is_reported(
    text: str, flow: FlowDefinition, sentence: str, tmp_path: Path
) -> None:
    """Before anything starts: an event without a topic, another key, a log that forgets too soon."""
    [problem] = check_topics([flow], topic(tmp_path, text))
    assert sentence in problem.sentence
    assert problem.remedy
