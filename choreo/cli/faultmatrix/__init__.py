"""The command `choreo faultmatrix`: `command` plays the cells, `report` is the answer, also as HTML."""
