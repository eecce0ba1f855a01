"""Answer questions about instances from the read model and the log.

`flows` names the flows, `readers` decode payloads, `read_your_writes` waits for a position, `freshness` measures the
distance to it, `queries` answers. One run: `history`, `timeline`, `spans`, `graph_state`, `status_text`, `why`; at an
earlier position `past` and `comparison`; folded again by `replay` from an `installation`. Many runs:
`attribute_filters`, `open_steps`, `durations` and `stalled`, `dead_letter_groups`, `orphans`, `deployment`, `gauges`.
The log: `sightings` and the `catalogue`. Its consumers: `groups`, with `group_memory`.
"""
