"""Declarations of services, steps and flows: parts.py (checked values), steps.py, flow.py.

A declaration collects values and checks the type hints; nothing runs. An event class is anything with `event_type` and
`event_fields()` (choreo.Event has both).
"""
