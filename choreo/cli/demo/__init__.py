"""Run `choreo demo`: `command` reads the options and prints, `play` places the orders and audits them."""
