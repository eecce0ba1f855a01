"""The implementations of the ports, one package for each technology. Shared rules stand here beside them, pure."""
