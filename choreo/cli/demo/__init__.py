"""Run `choreo demo`: `command` reads the options and prints.

`plan` is the interface of a project's demo, `play` starts the runs of each flow and answers, `results` audits them.
"""
