"""`python -m voltfold`: the command line."""

from __future__ import annotations

from voltfold.cli import main

if __name__ == "__main__":
    main()
