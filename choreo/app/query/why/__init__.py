"""Answer why a run stands still: one cause, its evidence and the next command.

In the order in which an answer is made: `reading` reads the ports, `facts` are plain values of what it found, `rules`
decide by them, `evidence` shows the facts that speak for the cause, `words` have its sentence and its remedy.
"""
