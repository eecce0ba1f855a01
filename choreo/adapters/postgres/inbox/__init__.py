"""A service's inbox in PostgreSQL.

In the order in which a request passes: `store` (the port, and its transactions), `gates` (its part that stores gates),
`rows` (locked, converted for the rules, and written back), `statements` (the SQL of each).
"""
