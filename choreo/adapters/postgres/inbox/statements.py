"""The statements of the inbox, each for a whole batch. Columns of a batch come as arrays.

`unnest` returns their rows in order, and the caller sorts the rows: locks are taken in the order of the keys.
"""

from __future__ import annotations

NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
"""The server's own clock: the clocks of its clients differ."""

NEW_IDENTITY = "INSERT INTO choreo.inbox_identities VALUES (%s, %s, 0, %s) ON CONFLICT DO NOTHING"
LOCK_IDENTITY = "SELECT name, loss FROM choreo.inbox_identities WHERE service = %s FOR UPDATE"
COMPARE_IDENTITY = """UPDATE choreo.inbox_identities
    SET lost_ms = CASE WHEN %s > 0 THEN %s ELSE lost_ms END, loss = %s WHERE service = %s"""
IDENTITY = f"""SELECT i.name, i.lost_ms, {NOW_MS} FROM (SELECT 1) AS one
    LEFT JOIN choreo.inbox_identities AS i ON i.service = %s"""  # noqa: S608 - our own words; values are bound
LOST_IDENTITY = """INSERT INTO choreo.inbox_identities VALUES (%s, %s, %s, %s)
    ON CONFLICT (service) DO UPDATE SET lost_ms = %s"""

_BATCH = "unnest(%s::text[], %s::text[]) AS asked (step, trigger)"
NEW_ROWS = """INSERT INTO choreo.inbox_rows (service, step, trigger, run, expires_ms)
    SELECT %s, a.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) AS a (step, trigger, run, expires_ms)
    ON CONFLICT DO NOTHING"""
LOCK_ROWS = f"""SELECT step, trigger, begun, token, holder, held_until_ms, outcome, certain FROM choreo.inbox_rows
    WHERE service = %s AND (step, trigger) IN (SELECT * FROM {_BATCH})
    ORDER BY step, trigger FOR UPDATE"""  # noqa: S608 - as above
RECORDED = f"""SELECT step, trigger, outcome, certain FROM choreo.inbox_rows
    WHERE service = %s AND outcome IS NOT NULL AND (step, trigger) IN (SELECT * FROM {_BATCH})"""  # noqa: S608
BEGIN = """UPDATE choreo.inbox_rows AS r
    SET begun = a.begun, token = a.token, holder = a.holder, held_until_ms = a.held_until_ms
    FROM (SELECT %s AS service) AS s,
        unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::text[], %s::bigint[])
            AS a (step, trigger, begun, token, holder, held_until_ms)
    WHERE r.service = s.service AND r.step = a.step AND r.trigger = a.trigger"""
RECORD = """UPDATE choreo.inbox_rows AS r
    SET outcome = a.outcome, certain = a.certain, token = '', holder = '', held_until_ms = 0
    FROM (SELECT %s AS service) AS s, unnest(%s::text[], %s::text[], %s::bytea[], %s::boolean[])
        AS a (step, trigger, outcome, certain)
    WHERE r.service = s.service AND r.step = a.step AND r.trigger = a.trigger"""
RENEW = f"""UPDATE choreo.inbox_rows SET held_until_ms = CASE WHEN %s > 0 THEN {NOW_MS} + %s ELSE 0 END
    WHERE service = %s AND (step, trigger) IN (SELECT * FROM {_BATCH})
        AND holder = %s AND begun > 0 AND outcome IS NULL"""  # noqa: S608 - as above

SLOTS = """SELECT run, step, trigger FROM choreo.inbox_slots
    WHERE service = %s AND (run, step) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""
NEW_SLOTS = "INSERT INTO choreo.inbox_slots SELECT %s, a.* FROM unnest(%s::text[], %s::text[], %s::text[]) AS a"

NEW_RUNS = """INSERT INTO choreo.inbox_runs (service, run) SELECT %s, a.* FROM unnest(%s::text[]) AS a
    ON CONFLICT DO NOTHING"""
_RUNS = """SELECT run, ended_ms, compensating, paused, pause_n, stopped_at FROM choreo.inbox_runs
    WHERE service = %s AND run = ANY(%s)"""
RUNS = _RUNS
LOCK_RUNS = f"{_RUNS} ORDER BY run FOR UPDATE"
MARK = """UPDATE choreo.inbox_runs SET compensating = %s, ended_ms = %s, paused = %s, pause_n = %s, stopped_at = %s
    WHERE service = %s AND run = %s"""

# A row without a key marks a partition with stored positions.
GATES = """(SELECT NULL::text AS key, NULL::bytea AS state FROM choreo.inbox_gate_positions
        WHERE service = %s AND flow = %s AND shape = %s LIMIT 1)
    UNION ALL SELECT key, state FROM choreo.inbox_gates
        WHERE service = %s AND flow = %s AND shape = %s AND key = ANY(%s)"""
GATE_POSITION = """SELECT position FROM choreo.inbox_gate_positions
    WHERE service = %s AND flow = %s AND shape = %s AND partition = %s"""
LOCK_GATE_POSITIONS = """SELECT partition FROM choreo.inbox_gate_positions
    WHERE service = %s AND flow = %s AND shape = %s AND partition = ANY(%s) ORDER BY partition FOR UPDATE"""
KEEP_GATE_POSITIONS = """INSERT INTO choreo.inbox_gate_positions AS known
    SELECT %s, %s, %s, a.* FROM unnest(%s::integer[], %s::bigint[]) AS a
    ON CONFLICT (service, flow, shape, partition)
    DO UPDATE SET position = greatest(known.position, excluded.position)"""
KEEP_GATES = """INSERT INTO choreo.inbox_gates AS known
    SELECT %s, %s, %s, a.* FROM unnest(%s::text[], %s::bigint[], %s::bytea[], %s::bigint[]) AS a
    ON CONFLICT (service, flow, shape, key) DO UPDATE
    SET position = excluded.position, state = excluded.state, expires_ms = excluded.expires_ms
    WHERE excluded.position >= known.position"""

# In small pieces; returns the numbers of dropped runs and entries.
FORGET = """WITH old AS (SELECT run FROM choreo.inbox_runs WHERE service = %s AND ended_ms > 0 AND ended_ms < %s
        ORDER BY ended_ms LIMIT %s FOR UPDATE SKIP LOCKED),
    runs AS (DELETE FROM choreo.inbox_runs AS r USING old WHERE r.service = %s AND r.run = old.run),
    slots AS (DELETE FROM choreo.inbox_slots AS s USING old WHERE s.service = %s AND s.run = old.run),
    gone AS (DELETE FROM choreo.inbox_rows AS r USING old WHERE r.service = %s AND r.run = old.run
        RETURNING r.begun, r.outcome)
    SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone WHERE begun > 0 OR outcome IS NOT NULL)"""
FORGET_ROWS = "DELETE FROM choreo.inbox_rows WHERE service = %s AND expires_ms > 0 AND expires_ms < %s"
FORGET_GATES = "DELETE FROM choreo.inbox_gates WHERE service = %s AND expires_ms > 0 AND expires_ms < %s"
