"""Fewer configurations without losing the best: dominated ones go, of several only the hull is ever in an optimum."""

from __future__ import annotations

from optimizer.choices import Choice


def undominated(choices: list[Choice]) -> list[Choice]:
    """Without configurations that another one of the same unit beats or equals at every class and in idle power."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (-c.config.max_batch, c.config.tp)):
        if not any(_beats(other, choice) for other in kept):
            kept = [other for other in kept if not _beats(choice, other)] + [choice]
    order = {id(choice): i for i, choice in enumerate(choices)}
    return sorted(kept, key=lambda c: order[id(c)])


def _beats(a: Choice, b: Choice) -> bool:
    same = (a.site.name, a.host.name, a.owned, a.source) == (b.site.name, b.host.name, b.owned, b.source)
    if not same or a.config.role != b.config.role or a.idle_w > b.idle_w:
        return False
    for c, (mine, theirs) in enumerate(zip(a.served, b.served, strict=True)):
        if isinstance(theirs, str):
            continue
        if isinstance(mine, str) or a.joules[c] > b.joules[c]:
            return False
        if mine.instance_s / a.instances > theirs.instance_s / b.instances:
            return False
    return True


def hull(points: list[tuple[float, float, int]]) -> list[int]:
    """The lower left convex hull of (load, joules, which): no mix of the others takes less of either.

    Only these can be in an optimum where grams, dollars and room all follow from load and joules.
    """
    found: list[tuple[float, float, int]] = []
    for point in sorted(points):
        if found and point[1] >= found[-1][1]:
            continue  # more load and no fewer joules
        while len(found) > 1 and _above(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return [which for _, _, which in found]


def _above(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
