"""The inbox's writes as scripts: each reads and writes atomically, in one round trip for a whole batch.

Keys below a service's root: `row:<step>:<trigger>` (begun, token, until, outcome, certain), `run:<run>` (the facts
about it, its slots, the names of its rows), `ended` (runs by the time of their end), `memory` (the inbox's id, and
`lost_ms`: when the inbox before it was lost, 0: there was none). A run's keys expire together, `linger` after its end;
a later write about the run gets the time that is left. BEGIN repeats the rule of `adapters.inbox_rules.begin`, because
it must decide inside the server; one suite tests both.
"""

from __future__ import annotations

from choreo.adapters.assignment import LEASE_MAX_MS

_HEAD = """
local root, now, linger = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local asked, called = cmsgpack.unpack(ARGV[3]), ARGV[4]
"""

# The caller knows the inbox by its id: if there is no inbox or another one, all earlier entries are lost.
_REMEMBERS = """
local name, lost = unpack(redis.call('HMGET', root .. ':memory', 'name', 'lost_ms'))
if name ~= called then
    name, lost = name or called, ARGV[1]
    redis.call('HSET', root .. ':memory', 'name', name, 'lost_ms', lost)
end
lost = tonumber(lost)
"""

# A new inbox takes the proposed id. It is not the first inbox if a caller has known another one. An existing inbox has
# lost entries if the server has lost writes since the last call (`loss`, see `examination`).
COMPARE = f"""{_HEAD}
local name, lost, loss = unpack(redis.call('HMGET', root .. ':memory', 'name', 'lost_ms', 'loss'))
if name and (loss or '0') ~= ARGV[5] then lost = ARGV[1] end
name, lost = name or called, lost or '0'
for _, known in ipairs(asked) do
    if known ~= name then lost = ARGV[1] end
end
redis.call('HSET', root .. ':memory', 'name', name, 'lost_ms', lost, 'loss', ARGV[5])
return name
"""

_BELONGS = """
local function belongs(name, run)
    local row, of_run = root .. ':row:' .. name, root .. ':run:' .. run
    local left = linger
    if run ~= '' then
        redis.call('HSET', of_run, 'row:' .. name, '')
        left = redis.call('PTTL', of_run)
    end
    if left > 0 then redis.call('PEXPIRE', row, left) end
end
"""

# The facts about a run, if there are any: compensating, time of its end, paused, number of the pause, place of its
# stop.
_MARK_OF = """
local function mark_of(run)
    local known = redis.call(
        'HMGET', KEYS[1] .. ':run:' .. run, 'compensating', 'ended_ms', 'paused', 'pause_n', 'stopped_at')
    return known[4] and {known[1] or '', known[2] or '', known[3], known[4], known[5] or -1}
end
"""

# The server's own clock: the clocks of its clients differ. An attempt's token begins with its holder.
_HOLDS = """
local holder, lease = ARGV[5], tonumber(ARGV[6])
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = lease > 0 and string.format('%.0f', clock + lease) or '0'
local function mine(token)
    return token and token:sub(1, #holder) == holder
end
"""

# An attempt's token also distinguishes a call that is repeated, because its answer was lost, from a second attempt.
# `grace`: how long an expired lease is still respected. Returns a number for each attempt, packed, because single
# numbers cost the client 10 µs each to read; and further results with the attempt's index from 1.
BEGIN = f"""{_HEAD}{_REMEMBERS}{_BELONGS}{_HOLDS}{_MARK_OF}
local grace = tonumber(ARGV[7])
local answers, others = {{}}, {{}}
for i, attempt in ipairs(asked) do
    local trigger, step, run, slot, token, unmarked = unpack(attempt)
    local mark = unmarked and mark_of(run)
    local entry = step .. ':' .. trigger
    local row = root .. ':row:' .. entry
    local begun, last, outcome, certain, held = unpack(
        redis.call('HMGET', row, 'begun', 'token', 'outcome', 'certain', 'until'))
    local first, held_ms = trigger, 0
    if not mark and not outcome and slot ~= '' then
        local of_run, field = root .. ':run:' .. slot, 'slot:' .. step
        if redis.call('HSETNX', of_run, field, trigger) == 0 then first = redis.call('HGET', of_run, field) end
    end
    if held and held ~= '0' and not mine(last) and tonumber(held) - clock <= {LEASE_MAX_MS} then
        held_ms = math.max(tonumber(held) - clock, grace)
    end
    if mark then
        answers[i], others[#others + 1] = 0, {{i, unpack(mark)}}
    elseif outcome then
        answers[i], others[#others + 1] = 0, {{i, outcome, certain}}
    elseif first ~= trigger then
        answers[i], others[#others + 1] = 0, {{i, first}}
    elseif held_ms > 0 then
        answers[i] = -held_ms
    else
        answers[i] = tonumber(begun or 0) + (last == token and 0 or 1)
        redis.call('HSET', row, 'begun', answers[i], 'token', token, 'until', until_ms)
        belongs(entry, run)
    end
end
return {{cmsgpack.pack(answers), others, name}}
"""

# Returns how often each attempt was begun before, packed, and the recorded outcomes: the rules decide by them. A row
# with a begun attempt belongs to its run already.
RECORD = f"""{_HEAD}{_REMEMBERS}{_BELONGS}
local doubtful = lost > 0 and now < lost + linger
local counts, standing = {{}}, {{}}
for i, wanted in ipairs(asked) do
    local trigger, step, run, certain_if_begun = unpack(wanted)
    local entry = step .. ':' .. trigger
    local row = root .. ':row:' .. entry
    local begun, outcome, certain = unpack(redis.call('HMGET', row, 'begun', 'outcome', 'certain'))
    begun = tonumber(begun or 0)
    counts[i] = begun
    if outcome then
        standing[#standing + 1] = {{i, outcome, certain}}
    else
        local surely = not doubtful and begun == certain_if_begun
        redis.call('HSET', row, 'outcome', ARGV[4 + i], 'certain', surely and 1 or 0)
        redis.call('HDEL', row, 'token', 'until')
        if begun == 0 or run == '' then belongs(entry, run) end
    end
end
return {{doubtful and 1 or 0, cmsgpack.pack(counts), standing, name}}
"""

RENEW = f"""{_HEAD}{_HOLDS}
for _, held in ipairs(asked) do
    local row = root .. ':row:' .. held[2] .. ':' .. held[1]
    if mine(redis.call('HGET', row, 'token')) then redis.call('HSET', row, 'until', until_ms) end
end
"""

MARK = f"""{_HEAD}
for _, mark in ipairs(asked) do
    local run, compensating, ended, paused, pause_n, stopped_at = unpack(mark)
    local of_run = root .. ':run:' .. run
    local known_n, known_end, known_compensating, known_at = unpack(
        redis.call('HMGET', of_run, 'pause_n', 'ended_ms', 'compensating', 'stopped_at'))
    local fields = {{}}
    if compensating then fields = {{'compensating', 1}} end
    local unknown = not (known_compensating or known_end)
    if (compensating or ended) and (unknown or stopped_at < tonumber(known_at or -1)) then
        fields[#fields + 1], fields[#fields + 2] = 'stopped_at', stopped_at
    end
    if pause_n >= tonumber(known_n or -1) then
        for _, part in ipairs({{'paused', paused and 1 or 0, 'pause_n', pause_n}}) do fields[#fields + 1] = part end
    end
    local ends = ended and not known_end
    if ends then fields[#fields + 1], fields[#fields + 2] = 'ended_ms', ARGV[1] end
    if #fields > 0 then redis.call('HSET', of_run, unpack(fields)) end
    if ends then
        redis.call('ZADD', root .. ':ended', ARGV[1], run)
        redis.call('PEXPIRE', of_run, linger)
        for _, field in ipairs(redis.call('HKEYS', of_run)) do
            if field:sub(1, 4) == 'row:' then redis.call('PEXPIRE', root .. ':' .. field, linger) end
        end
    end
end
redis.call('ZREMRANGEBYSCORE', root .. ':ended', '-inf', '(' .. (now - linger))
"""

MARKS = f"""{_MARK_OF}
local marks = {{}}
for i, run in ipairs(cmsgpack.unpack(ARGV[1])) do marks[i] = mark_of(run) end
return marks
"""

# Gates of a flow's keys: `gates:<flow>:<shape>` (partition → position), and beside it a hash per key (position, state).
# Returns the partitions that had a position before and have none now: then all is lost, and nothing is written.
KEEP_GATES = """
local of_flow, linger = KEYS[1] .. ARGV[1], tonumber(ARGV[2])
local positions, rows = unpack(cmsgpack.unpack(ARGV[3]))
local known, lost = {}, {}
for i, asked in ipairs(positions) do
    known[i] = redis.call('HGET', of_flow, asked[1])
    if asked[3] and not known[i] then lost[#lost + 1] = asked[1] end
end
if #lost > 0 then return lost end
for i, asked in ipairs(positions) do
    if not known[i] or tonumber(known[i]) < asked[2] then redis.call('HSET', of_flow, asked[1], asked[2]) end
end
for i, row in ipairs(rows) do
    local of_key = of_flow .. ':' .. row[1]
    if row[2] >= tonumber(redis.call('HGET', of_key, 'position') or -1) then
        redis.call('HSET', of_key, 'position', row[2], 'state', ARGV[3 + i])
        if row[3] then redis.call('PEXPIRE', of_key, linger) else redis.call('PERSIST', of_key) end
    end
end
return lost
"""

# In small pieces, so that no other client waits long; returns the numbers of dropped runs and entries.
FORGET = """
local entries = 0
local runs = redis.call('ZRANGE', KEYS[1] .. ':ended', '-inf', '(' .. ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, run in ipairs(runs) do
    local of_run = KEYS[1] .. ':run:' .. run
    for _, field in ipairs(redis.call('HKEYS', of_run)) do
        if field:sub(1, 4) == 'row:' then entries = entries + redis.call('UNLINK', KEYS[1] .. ':' .. field) end
    end
    redis.call('UNLINK', of_run)
    redis.call('ZREM', KEYS[1] .. ':ended', run)
end
return {#runs, entries}
"""
