"""Counts the product's lines: `python benchmarks/lines.py BUDGET` fails above it, or when a module exceeds 400."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGES = ("profiles", "sim", "calibrate", "optimizer", "carbonfleet")
LONG, LIMIT = 200, 400


def count(root: Path) -> dict[str, int]:
    """Lines of every product module, by its path from `root`; blanks and docstrings count."""
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {path.relative_to(root).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files}


def main(budget: int, root: Path) -> int:
    """Print totals per package and the long modules; the exit code."""
    lines = count(root)
    for package in PACKAGES:
        mine = [n for path, n in lines.items() if path.startswith(f"{package}/")]
        print(f"{package:12} {sum(mine):6} lines in {len(mine)} modules")
    for path, n in sorted(lines.items(), key=lambda item: -item[1]):
        if n > LONG:
            print(f"  {n:4} {path}" + (f"  exceeds {LIMIT}: split it" if n > LIMIT else ""))
    total = sum(lines.values())
    print(f"{'product':12} {total:6} lines, budget {budget}" + ("" if total <= budget else ": EXCEEDED"))
    return int(total > budget or max(lines.values(), default=0) > LIMIT)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit("usage: python benchmarks/lines.py BUDGET")
    sys.exit(main(int(sys.argv[1]), Path(__file__).resolve().parents[1]))
