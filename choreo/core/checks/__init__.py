"""Check a flow definition before it runs.

`checks` runs them all: `names`, then `flow`, `graph` and `times`; each gives findings (`finding`).
"""
