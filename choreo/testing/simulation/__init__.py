"""The simulator: the project's real services with the real hosts, in one process and in virtual time.

In the order in which a run is made: `loop`, `clock` and `ownership` (time, order and chance), `runners` (handlers on
the loop), `cluster`, `network` and `backend` (a modelled Kafka and Redis, and the way there), `world` (processes).
"""
