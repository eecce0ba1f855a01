"""`python -m choreo` is `choreo`."""

from choreo.cli import main

if __name__ == "__main__":
    main()
