"""The tracker's records and states on Kafka, by Faust, which decides nothing: `choreo.app.tracking` does.

`group` opens a session by `options`, in a `data_dir` with a `local_copy` of the states (`stored_state` is the form of
one); `topics` are its log and changelog, `trust` decides which states are valid. `application` is Faust: it keeps the
group, fetches and restores. `fetched` turns messages into records, `consumer` polls and commits them as a member of
the group, `assignments` has the offsets delivered, acknowledged and committed, `publisher` publishes facts and dead
letters; `session_watch` detects a session that makes no progress.
"""
