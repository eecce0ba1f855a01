"""A member of a consumer group.

In the order in which a record passes: `thread` (the client: fetches, assignments), `fetch_buffer` (messages by
partition, until they are polled), `consumer` (polls, and a commit's start), `commits` (outcomes, states, then the
offsets). Beside them: `lookups` (requests about its topic), `truncation` (records deleted before they were read),
`reports` (conditions of one consumer that last).
"""
