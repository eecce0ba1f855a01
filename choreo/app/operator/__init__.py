"""Publish the facts with which operators steer a run.

`actions` makes facts about runs and compensations, `dead_letters` those that redrive; `preview` foresees their
consequences, `operator` publishes them; `batch_plans` plans many at once, `batches` runs them. `audit` lists past
actions.
"""
