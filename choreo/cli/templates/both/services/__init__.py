"""One file per service. A service knows choreo's public names and the schemas, and no other service."""
