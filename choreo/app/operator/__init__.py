"""Publish the facts with which operators steer a run.

`operator` for runs and compensations, `dead_letters` for redriving; `audit` lists what was done.
"""
