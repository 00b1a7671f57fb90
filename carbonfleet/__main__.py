"""`python -m carbonfleet`, the same as `carbonfleet`."""

from __future__ import annotations

from carbonfleet.cli import main

if __name__ == "__main__":
    main()
