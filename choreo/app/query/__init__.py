"""Answer questions about instances from the read model and the log.

Parts: `flows` names the flows, `queries` answers, `read_your_writes` waits for a position, `history` and `timeline`
read a run's records, `status_text` puts its status into sentences.
"""
