"""Events as messages of a topic, without any group.

In the order in which an event passes: `records` (an event as a message and back), `producer` (messages are sent and
acknowledged), `reader` (messages are read at given places). Their stamps show the
log's time, see `choreo.adapters.log_clock`.
"""
