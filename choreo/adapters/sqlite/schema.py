"""The tables of the file, and nothing else. `VERSION` moves with every change to them.

A record's primary key is its place: the partition's id in the upper bits, the offset in the lower 40. A
partition is thus one range of one B-tree, read without an index between, and a place is one number. Auditors and
foreign producers use the view `log`, which has the plain columns.
"""

from __future__ import annotations

VERSION = 10

OFFSET_BITS = 40
"""10**12 offsets in a partition, 8 million partitions in a file."""

SPAN = 1 << OFFSET_BITS

PLACES = "at:"
"""Before the name of a place among the counts of runs by status; no status has a colon."""

_META = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

_LOG = """
CREATE TABLE partitions (
    partition_id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, UNIQUE (topic, partition)
) STRICT;
CREATE TABLE records (
    place INTEGER PRIMARY KEY, stamp_ms INTEGER NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, key TEXT NOT NULL,
    run TEXT NOT NULL, step TEXT NOT NULL, causation TEXT NOT NULL, entry TEXT NOT NULL, certain INTEGER NOT NULL,
    headers TEXT NOT NULL, data BLOB NOT NULL
) STRICT;
CREATE INDEX records_of_key ON records (key);
"""

_LOG_VIEW = f"""
CREATE VIEW log AS
    SELECT topic, partition, place - (partition_id << {OFFSET_BITS}) AS offset, stamp_ms, id, type, key, run, step,
        causation, entry, certain, headers, data
    FROM records JOIN partitions ON partition_id = place >> {OFFSET_BITS};
CREATE TRIGGER log_insert INSTEAD OF INSERT ON log BEGIN
    SELECT RAISE(ABORT, 'no such topic and partition')
        WHERE NOT EXISTS (SELECT 1 FROM partitions WHERE topic = NEW.topic AND partition = NEW.partition);
    INSERT INTO records SELECT
        coalesce((partition_id << {OFFSET_BITS}) + NEW.offset, last.place + 1, partition_id << {OFFSET_BITS}),
        max(coalesce(NEW.stamp_ms, CAST(strftime('%s', 'now') AS INTEGER) * 1000), coalesce(last.stamp_ms, 0)),
        coalesce(NEW.id, ''), coalesce(NEW.type, ''), coalesce(NEW.key, ''), coalesce(NEW.run, ''),
        coalesce(NEW.step, ''), coalesce(NEW.causation, ''), coalesce(NEW.entry, ''), coalesce(NEW.certain, 0),
        coalesce(NEW.headers, '{{}}'), coalesce(NEW.data, x'')
    FROM partitions LEFT JOIN records AS last ON last.place = (
        SELECT max(place) FROM records
        WHERE place >= partition_id << {OFFSET_BITS} AND place < (partition_id + 1) << {OFFSET_BITS}
    )
    WHERE partitions.topic = NEW.topic AND partitions.partition = NEW.partition;
END;
"""  # noqa: S608 -- our own numbers

_GROUPS = """
CREATE TABLE memberships (
    topic TEXT NOT NULL, grp TEXT NOT NULL, name TEXT NOT NULL, incarnation INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL, PRIMARY KEY (topic, grp, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    topic TEXT NOT NULL, grp TEXT NOT NULL, partition INTEGER NOT NULL, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
    PRIMARY KEY (topic, grp, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE offsets (
    topic TEXT NOT NULL, grp TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (topic, grp, partition)
) STRICT, WITHOUT ROWID;
"""

# Rows that are written again and again lie in the order they came, with a narrow index beside them: an update then
# touches the page of its neighbours in time, not a random one of a tree ordered by key.
# An attempt's slot is its run where it holds the run's slot, else its trigger. An outcome has its attempt's number.
_INBOX = """
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY, service TEXT NOT NULL, trigger TEXT NOT NULL, step TEXT NOT NULL, run TEXT NOT NULL,
    slot TEXT NOT NULL, begun INTEGER NOT NULL, holder TEXT NOT NULL, held_until_ms INTEGER NOT NULL,
    UNIQUE (trigger, step, service), UNIQUE (slot, step, service)
) STRICT;
CREATE INDEX attempts_of_run ON attempts (run, service) WHERE slot <> run;
CREATE TABLE outcomes (number INTEGER PRIMARY KEY, events TEXT NOT NULL) STRICT;
CREATE TABLE marks (
    service TEXT NOT NULL, run TEXT NOT NULL, compensating INTEGER NOT NULL, ended_ms INTEGER, paused INTEGER NOT NULL,
    pause_n INTEGER NOT NULL, stopped_at INTEGER NOT NULL, UNIQUE (run, service)
) STRICT;
CREATE INDEX marks_ended ON marks (service, ended_ms) WHERE ended_ms IS NOT NULL;
"""

_GATES = """
CREATE TABLE gates (
    number INTEGER PRIMARY KEY, service TEXT NOT NULL, flow TEXT NOT NULL, shape TEXT NOT NULL, key TEXT NOT NULL,
    position INTEGER NOT NULL, ended_ms INTEGER, state BLOB NOT NULL, UNIQUE (key, flow, shape, service)
) STRICT;
CREATE INDEX gates_ended ON gates (service, ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE gate_positions (
    service TEXT NOT NULL, flow TEXT NOT NULL, shape TEXT NOT NULL, partition INTEGER NOT NULL,
    position INTEGER NOT NULL, PRIMARY KEY (service, flow, shape, partition)
) STRICT, WITHOUT ROWID;
"""

# A page of a list is a range of an index, and the runs are counted as they change: neither grows with the number of
# runs. The number of a row is the last column of every index.
_LISTS = """
CREATE INDEX instances_by_flow ON instances (flow, started_ms);
CREATE INDEX instances_by_key ON instances (flow, key, started_ms);
CREATE INDEX dead_letters_by_topic ON dead_letters (topic);
CREATE TABLE instance_counts (
    flow TEXT NOT NULL, status TEXT NOT NULL, instances INTEGER NOT NULL, PRIMARY KEY (flow, status)
) STRICT, WITHOUT ROWID;
INSERT INTO instance_counts SELECT flow, status, count(*) FROM instances GROUP BY flow, status;
CREATE TRIGGER instance_added AFTER INSERT ON instances BEGIN
    INSERT INTO instance_counts VALUES (new.flow, new.status, 1) ON CONFLICT DO UPDATE SET instances = instances + 1;
END;
CREATE TRIGGER instance_moved AFTER UPDATE OF status ON instances WHEN old.status <> new.status BEGIN
    UPDATE instance_counts SET instances = instances - 1 WHERE flow = old.flow AND status = old.status;
    INSERT INTO instance_counts VALUES (new.flow, new.status, 1) ON CONFLICT DO UPDATE SET instances = instances + 1;
END;
CREATE TRIGGER instance_removed AFTER DELETE ON instances BEGIN
    UPDATE instance_counts SET instances = instances - 1 WHERE flow = old.flow AND status = old.status;
END;
"""

# Runs by the time that they stand in a step, and by their next due time: only those that stand somewhere.
_STANDING = """
CREATE INDEX instances_standing ON instances (flow, place, since_ms) WHERE place <> '';
CREATE INDEX instances_due ON instances (flow, due_ms) WHERE due_ms > 0;
"""

# Runs are counted by place as they move, too.
_AT = f"""
CREATE TRIGGER instance_placed AFTER INSERT ON instances WHEN new.place <> '' BEGIN
    INSERT INTO instance_counts VALUES (new.flow, '{PLACES}' || new.place, 1)
        ON CONFLICT DO UPDATE SET instances = instances + 1;
END;
CREATE TRIGGER instance_left AFTER UPDATE OF place ON instances WHEN old.place <> new.place AND old.place <> '' BEGIN
    UPDATE instance_counts SET instances = instances - 1 WHERE flow = old.flow AND status = '{PLACES}' || old.place;
END;
CREATE TRIGGER instance_came AFTER UPDATE OF place ON instances WHEN old.place <> new.place AND new.place <> '' BEGIN
    INSERT INTO instance_counts VALUES (new.flow, '{PLACES}' || new.place, 1)
        ON CONFLICT DO UPDATE SET instances = instances + 1;
END;
CREATE TRIGGER instance_gone AFTER DELETE ON instances WHEN old.place <> '' BEGIN
    UPDATE instance_counts SET instances = instances - 1 WHERE flow = old.flow AND status = '{PLACES}' || old.place;
END;
"""  # noqa: S608 -- our own names

_STORES = """
CREATE TABLE dead_letters (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, service TEXT NOT NULL, step TEXT NOT NULL, cause TEXT NOT NULL,
    set_aside_ms INTEGER NOT NULL, stamp_ms INTEGER NOT NULL, event TEXT NOT NULL, redriven INTEGER NOT NULL
) STRICT;
CREATE TABLE states (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, key TEXT NOT NULL, position INTEGER NOT NULL,
    due_ms INTEGER NOT NULL, unacknowledged INTEGER NOT NULL, state BLOB NOT NULL, UNIQUE (topic, partition, key)
) STRICT;
CREATE TABLE instances (
    number INTEGER PRIMARY KEY, flow TEXT NOT NULL, key TEXT NOT NULL, run TEXT NOT NULL, status TEXT NOT NULL,
    cause TEXT NOT NULL, started_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, partition INTEGER NOT NULL,
    position INTEGER NOT NULL, attributes TEXT NOT NULL, detail BLOB NOT NULL, place TEXT NOT NULL DEFAULT '',
    since_ms INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0, UNIQUE (flow, key, run)
) STRICT;
CREATE INDEX instances_by_start ON instances (started_ms);
CREATE INDEX instances_by_status ON instances (flow, status, started_ms);
CREATE TABLE attributes (
    name TEXT NOT NULL, value TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, value, number)
) STRICT, WITHOUT ROWID;
"""

_NOTES = """
CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

_PENDING = """
CREATE INDEX states_pending ON states (topic, partition, key, due_ms, unacknowledged)
    WHERE due_ms > 0 OR unacknowledged;
"""

# `epoch` counts changes of membership: its value names member incarnations and lease epochs, and shows members that
# they must read the group again.
_FIRST_ROWS = f"""
INSERT INTO meta VALUES ('schema_version', {VERSION}), ('epoch', 0);
"""  # noqa: S608 -- our own number

SCRIPT = _META + _LOG + _LOG_VIEW + _GROUPS + _INBOX + _GATES + _STORES + _NOTES + _PENDING + _LISTS + _STANDING + _AT
SCRIPT += _FIRST_ROWS

_FORMER_TYPES = {
    "FlowTurned": "CompensationStarted",
    "NothingToUndo": "NothingToCompensate",
    "UndoDeadlinePassed": "CompensationDeadlinePassed",
    "UndoFailed": "CompensationFailed",
    "UndoResolved": "CompensationResolved",
    "UndoRetryRequested": "CompensationRetryRequested",
}
"""Event types of earlier versions and their present names."""


def _former(statements: str) -> str:
    """Return statements with the names that tables and columns had in the version they upgrade."""
    for new, old in (("dead_letters", "letters"), ("unacknowledged", "unsaid"), ("compensating", "turned")):
        statements = statements.replace(new, old)
    return statements


# The tracker folds the log again: states and views hold the former names.
_NAMES = """
ALTER TABLE seats RENAME TO memberships;
DROP VIEW log;
ALTER TABLE lanes RENAME TO partitions;
ALTER TABLE partitions RENAME COLUMN lane TO partition_id;
ALTER TABLE marks RENAME COLUMN turned TO compensating;
ALTER TABLE letters RENAME TO dead_letters;
DROP INDEX letters_by_topic;
CREATE INDEX dead_letters_by_topic ON dead_letters (topic);
ALTER TABLE states RENAME COLUMN unsaid TO unacknowledged;
DELETE FROM states;
DELETE FROM instances;
DELETE FROM attributes;
DELETE FROM offsets WHERE grp = 'tracker';
""" + "".join(  # noqa: S608 -- our own names
    f"UPDATE records SET type = 'choreo.{new}' WHERE type = 'choreo.{old}';\n"  # noqa: S608 -- our own names
    f"""UPDATE outcomes SET events = replace(events, '"choreo.{old}"', '"choreo.{new}"');\n"""
    f"""UPDATE dead_letters SET event = replace(event, '"choreo.{old}"', '"choreo.{new}"');\n"""
    for old, new in _FORMER_TYPES.items()
)

_FOLD_AGAIN = """
DELETE FROM states;
DELETE FROM instances;
DELETE FROM instance_counts;
DELETE FROM attributes;
DELETE FROM offsets WHERE grp = 'tracker';
"""
"""The tracker folds the log again, which fills new columns and counts. No trigger empties the counts of outcomes."""

_PLACES = (
    """
ALTER TABLE instances ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN due_ms INTEGER NOT NULL DEFAULT 0;
"""
    + _FOLD_AGAIN
)

UPGRADES = {
    2: _former(
        "ALTER TABLE marks ADD COLUMN stopped_at INTEGER NOT NULL DEFAULT -1;"
    ),  # the file does not know where a run was stopped
    3: _former(_GATES),  # services fold them from the log
    4: _former(_LISTS),
    5: _former(f"DROP INDEX states_due;\nDROP INDEX states_unsaid;\n{_PENDING}"),
    6: _NAMES + _LOG_VIEW,
    7: _PLACES + _STANDING,
    8: _NOTES,
    9: _FOLD_AGAIN + _AT,
}
"""Version → the statements that make the next one of it."""
