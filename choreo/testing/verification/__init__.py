"""Verification: every reachable state of the real core for a flow, under every order of outcomes and faults.

In the order of an exploration: `verify` begins it, with the `moves` that are allowed and the `payloads` of events;
`explore` follows every move of the `world`: the `tracker`, each step's `host` with its `attempts` and `transitions`
(`host_state`, `specs`, `books` of effects), the `adversary` outside. `routing` and `marks` are the knowledge of a host.
`canonical`, `pool` and `reductions` make equal states one. `promises` and `ends` judge them.
"""
