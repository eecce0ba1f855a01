"""A member of a consumer group.

In the order in which a record passes: `thread` (the client: fetches, assignments), `fetch_buffer` (messages by
partition, until they are polled), `consumer` (polls, and a commit's start), `commits` (outcomes, states, then the
offsets). Beside them `conditions`: records deleted before they were read, a consumer that gets nothing, two processes
of one instance.
"""
