"""The step host: runs the steps of one service in one flow.

In the order in which a record passes through them: `host` (the loop), `dispatch` (polls, and jobs with a known result),
`job_maker` (records become jobs), `work_queue` (jobs wait for their key), `attempts` (jobs to start are counted in
the inbox and become attempts; the runners call the handlers), `results` (a handler's result becomes a job's result),
`commit` (results become true together). Beside them: `catch_up` (a partition just assigned), `session` (membership in
the group), `leases`, `retry_timers`.
"""
