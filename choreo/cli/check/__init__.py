"""Run `choreo check`: `command` reads the options and prints.

`project` collects the findings, `places` adds the line of each declaration, `suppressions` sets aside what the user
accepts. `sarif` writes the answer for other tools, `explained` reads the page of the codes.
"""
