"""The tables, in a schema of their own.

Texts sort by bytes; an id that is too long for an index is replaced by a digest.

Written for a schema called `choreo`: `qualified` replaces that by the installation's own name.
"""

from __future__ import annotations

import hashlib
import re

from choreo.adapters.nul_free import escaped

VERSION = 4
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")
"""A name that needs only quotes, within the bytes that PostgreSQL keeps of a name (NAMEDATALEN - 1)."""
KEY_CHARS = 300
"""Characters of an attribute's key that its index holds: the row itself decides."""
ID_MAX = 500
"""Bytes of an id in an index: four of them are within the 2,704 that an index entry may have."""

TABLES = """
CREATE TABLE choreo.about (single boolean PRIMARY KEY DEFAULT true CHECK (single), version integer NOT NULL,
    system text NOT NULL DEFAULT '', timeline text NOT NULL DEFAULT '', loss text NOT NULL DEFAULT '0');
CREATE TABLE choreo.origins (topic text PRIMARY KEY, note text NOT NULL);

CREATE TABLE choreo.inbox_identities (service text COLLATE "C" PRIMARY KEY, name text NOT NULL,
    lost_ms bigint NOT NULL, loss text NOT NULL);
CREATE TABLE choreo.inbox_rows (service text COLLATE "C", step text COLLATE "C", trigger text COLLATE "C",
    run text COLLATE "C" NOT NULL, begun integer NOT NULL DEFAULT 0, token text NOT NULL DEFAULT '',
    holder text NOT NULL DEFAULT '', held_until_ms bigint NOT NULL DEFAULT 0, outcome bytea, certain boolean,
    expires_ms bigint NOT NULL DEFAULT 0, PRIMARY KEY (service, step, trigger));
CREATE INDEX inbox_rows_of_run ON choreo.inbox_rows (service, run);
CREATE INDEX inbox_rows_expire ON choreo.inbox_rows (service, expires_ms) WHERE expires_ms > 0;
CREATE TABLE choreo.inbox_slots (service text COLLATE "C", run text COLLATE "C", step text COLLATE "C",
    trigger text NOT NULL, PRIMARY KEY (service, run, step));
CREATE TABLE choreo.inbox_runs (service text COLLATE "C", run text COLLATE "C",
    compensating boolean NOT NULL DEFAULT false,
    ended_ms bigint NOT NULL DEFAULT 0, paused boolean NOT NULL DEFAULT false, pause_n bigint NOT NULL DEFAULT 0,
    stopped_at bigint NOT NULL DEFAULT -1, PRIMARY KEY (service, run));
CREATE INDEX inbox_runs_ended ON choreo.inbox_runs (service, ended_ms) WHERE ended_ms > 0;
CREATE TABLE choreo.inbox_gates (service text COLLATE "C", flow text COLLATE "C", shape text COLLATE "C",
    key text COLLATE "C", position bigint NOT NULL, state bytea NOT NULL, expires_ms bigint NOT NULL,
    PRIMARY KEY (service, flow, shape, key));
CREATE INDEX inbox_gates_expire ON choreo.inbox_gates (service, expires_ms) WHERE expires_ms > 0;
CREATE TABLE choreo.inbox_gate_positions (service text COLLATE "C", flow text COLLATE "C", shape text COLLATE "C",
    partition integer, position bigint NOT NULL, PRIMARY KEY (service, flow, shape, partition));

CREATE SEQUENCE choreo.generations;
CREATE TABLE choreo.flows (flow text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL UNIQUE DEFAULT nextval('choreo.generations'));
CREATE TABLE choreo.dropped (generation bigint PRIMARY KEY);
CREATE TABLE choreo.positions (generation bigint, partition integer, position bigint NOT NULL,
    PRIMARY KEY (generation, partition));
CREATE TABLE choreo.states (generation bigint, key text COLLATE "C", value bytea NOT NULL,
    PRIMARY KEY (generation, key));
CREATE TABLE choreo.instances (generation bigint, row text COLLATE "C", key text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL, started_ms bigint NOT NULL, view bytea NOT NULL,
    place text COLLATE "C" NOT NULL, since_ms bigint NOT NULL, due_ms bigint NOT NULL, PRIMARY KEY (generation, row));
CREATE INDEX instances_by_start ON choreo.instances (generation, started_ms, row);
CREATE INDEX instances_by_status ON choreo.instances (generation, status, started_ms, row);
CREATE INDEX instances_of_key ON choreo.instances (generation, key, started_ms, row);
CREATE INDEX instances_standing ON choreo.instances (generation, place, since_ms) WHERE place <> '';
CREATE INDEX instances_due ON choreo.instances (generation, due_ms, row) WHERE due_ms > 0;
CREATE TABLE choreo.attributes (generation bigint, attribute text COLLATE "C", started_ms bigint,
    row text COLLATE "C", PRIMARY KEY (generation, attribute, started_ms, row));
CREATE TABLE choreo.attribute_keys (generation bigint, row text COLLATE "C", name text COLLATE "C",
    key text COLLATE "C" NOT NULL, PRIMARY KEY (generation, row, name));
CREATE INDEX attribute_keys_in_order ON choreo.attribute_keys (generation, name, left(key, 300), row);
CREATE TABLE choreo.history (generation bigint, key text COLLATE "C", position bigint,
    PRIMARY KEY (generation, key, position));
CREATE TABLE choreo.counts (generation bigint, partition integer, status text COLLATE "C", instances bigint NOT NULL,
    PRIMARY KEY (generation, partition, status));
"""
"""`flows.generation` is the current generation of a flow's views. A drop gives the flow another generation; the rows of
the old one, noted in `dropped`, are deleted later in small pieces."""
OF_GENERATION = ("positions", "states", "instances", "attributes", "attribute_keys", "history", "counts")


def name_of(prefix: str) -> str:
    """Return the name of the schema of the installation with this prefix."""
    name = f"choreo_{prefix}" if prefix else "choreo"
    if _NAME.fullmatch(name):
        return name
    return f"choreo_{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def quoted(name: str) -> str:
    """Return a name of `name_of` as a statement has it."""
    return f'"{name}"'


def qualified(sql: str, name: str) -> bytes:
    """Return the statement for the schema of this name."""
    return sql.replace("choreo.", f"{quoted(name)}.").encode()


def id_of(text: str) -> str:
    """Return an id as the tables hold it: without NUL, and as a digest where it is long."""
    text = escaped(text)
    data = text.encode()
    return text if len(data) <= ID_MAX else f"\x1b2{hashlib.blake2b(data).hexdigest()}"
