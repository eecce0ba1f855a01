"""The loops that poll, wait and commit. The decisions about a record are in `app` and `core`."""
