"""The program's columns: each class of requests in each slice, served by a group of units, priced in the objective."""

from __future__ import annotations

from collections.abc import Iterator

from optimizer.amount import Amount, drawn, worth
from optimizer.choices import Choice
from optimizer.demand import Load, RequestClass, Slice
from optimizer.program import Column
from optimizer.pruned import hull
from optimizer.purchase import per_hour
from optimizer.study import Study
from profiles.units import SECONDS_PER_HOUR


class Columns:
    """Every class in every slice on every group that serves it: with several configurations, those of the hull."""

    def __init__(
        self,
        study: Study,
        load: Load,
        slices: list[Slice],
        intensity: dict[str, list[float]],
        kept: list[Choice],
        groups: list[list[int]],
    ) -> None:
        self._study, self._load, self._slices, self._intensity, self._kept = study, load, slices, intensity, kept
        self.columns: list[Column] = []
        self.priced: list[Amount] = []
        self.choice_of: list[int] = []
        for g, group in enumerate(groups):
            for c, each in enumerate(load.classes):
                for o in self._offered(group, c):
                    self._add(g, o, c, each)

    def _offered(self, group: list[int], c: int) -> Iterator[int]:
        """A group's choices for a class; of several with one role only those on the hull of load and joules."""
        by_role: dict[str, list[tuple[float, float, int]]] = {}
        for o in group:
            busy_s = self._kept[o].busy_s(c, self._study.safe_utilisation)
            if busy_s is not None:
                by_role.setdefault(self._kept[o].config.role, []).append((busy_s, self._kept[o].grid_j(c), o))
        for points in by_role.values():
            chosen = set(hull(points)) if len(points) > 1 else {o for _, _, o in points}
            yield from (o for _, _, o in points if o in chosen)

    def _add(self, g: int, o: int, c: int, each: RequestClass) -> None:
        study, choice, first = self._study, self._kept[o], c * len(self._slices)
        values = self._intensity[choice.site.name]
        busy_s, grid_j = choice.busy_s(c, study.safe_utilisation) or 0.0, choice.grid_j(c)
        rented = per_hour(study, choice) if choice.hourly else None
        later = len(self._load.classes) * len(self._slices) if study.apart_by_role else 0
        role = choice.config.role
        for t, part in enumerate(self._slices):
            if part.lost == choice.site.name or (choice.hourly and part.year < choice.first_year):
                continue
            rate = part.rate(each)
            amount = drawn(choice.site, grid_j * rate * part.seconds, values[t], part.year)
            if rented is not None:
                paid_s, units = part.seconds or part.busy_s, rate * busy_s
                amount += rented.times(units * paid_s / SECONDS_PER_HOUR)
                amount += choice.kept_on(values[t] * paid_s, paid_s, part.year).times(units)
            amount = amount.dollars(study.usd_factor(part.year + 0.5) if study.discount_rate else 1.0)
            demand = first + t + (later if role == "decode" else 0)
            also = demand + later if role == "both" and later else None
            self.columns.append(Column(demand, g, rate * busy_s, worth(study, amount), also))
            self.priced.append(amount)
            self.choice_of.append(o)

    def watts(self, k: int) -> float:
        """What column k draws from the grid while its slice lasts, idle units apart but for hourly ones."""
        column, choice = self.columns[k], self._kept[self.choice_of[k]]
        c, t = divmod(column.demand % (len(self._load.classes) * len(self._slices)), len(self._slices))
        idle_w = choice.idle_w * choice.site.pue * column.load if choice.hourly else 0.0
        return self._slices[t].rate(self._load.classes[c]) * choice.grid_j(c) + idle_w

    def links(self) -> list[dict[int, float]]:
        """What is prefilled apart at a site is decoded apart at the same site."""
        found: dict[tuple[str, int], dict[int, float]] = {}
        size = len(self._load.classes) * len(self._slices)
        for k, column in enumerate(self.columns):
            choice = self._kept[self.choice_of[k]]
            if choice.config.role != "both":
                sign = 1.0 if choice.config.role == "prefill" else -1.0
                found.setdefault((choice.site.name, column.demand % size), {})[k] = sign
        return list(found.values())
