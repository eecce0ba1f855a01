"""Requests to the cluster about topics and groups, beside the messages.

In the order in which a request passes: `requests` (topics, ends, committed offsets, under choreo's names),
`joint_questions` (equal requests of one moment become one), `admin` (the client). A group's offsets go through
`group_offsets`, for reasons in its head. `log_identity` says which log a topic is; `log_watch` asks again and again
for conditions of the topics.
"""
