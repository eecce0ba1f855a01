"""Topics as operators change them: declared ones and replaced ones.

`changes` compares the declared topics with the cluster and makes the changes; `tracker_notes` finds the log that a
flow's states are of; `adoption` makes another topic that log.
"""
