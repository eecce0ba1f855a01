"""The tracker's use cases, in the order in which a record passes through them. No part knows a store or a broker.

`worker` loads states, folds records, commits, publishes. `fold` turns records into states, views, decisions and dead
letters, `read_back` folds own decisions in the transaction that appends them. `partition` has the rules of an owned
partition: silence, decisions published again, timers; `timer_index` has its pending keys. `views` are the rows of the
read model, `project` is the fold for the projector, `rebuild` compares a rebuild with the rows shown.
"""
