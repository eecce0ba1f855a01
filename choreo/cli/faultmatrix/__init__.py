"""The command `choreo faultmatrix`: `command` plays the cells, `page` is its HTML."""
