"""Publish the facts with which operators steer a run.

`actions` makes facts about runs and compensations, `dead_letters` those that redrive; `preview` foresees their
consequences, `operator` publishes them; `audit` lists past actions.
"""
