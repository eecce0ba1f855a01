"""The fault matrix: each step meets each fault at each point of an attempt, one cell after the other.

In the order in which a matrix is made: `table` (faults and points), `cells`, `routes` (runs that lead to a step),
`strikes` and `hosts` (a fault meets a handler, or a request of its host), `playing` (one run), `judging` (broken
promises), `matrix` (all cells).
"""
