"""Requests to the cluster about topics and groups, beside the messages.

In the order in which a request passes: `requests` (topics, ends, committed offsets, under choreo's names), `admin`
(the client; equal requests of one moment become one). A group is asked by `group_requests`, for reasons in its head.
`log_identity` says which log a topic is; `log_watch` asks again and again for conditions of the topics.
"""
