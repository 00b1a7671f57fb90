"""Whole studies against brute force: every purchase in every year enumerated, priced from docs/optimize.md.

One class of requests at a flat rate, so that the best dispatch of given units is to fill the cheapest first; years are
then apart but for the purchases, and each is worked out once for every number of units there.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from optimizer import demand, market
from optimizer.offers import Offer, Owned
from optimizer.solver import solve_program
from optimizer.study import Infeasible, Study
from profiles import catalog, embodied
from profiles.serve import part_load_j, serve
from tests.books_oracle import KWH_J, YEAR_S, model_of

A100, L4, LLAMA = "a100-sxm-80gb", "l4", "llama-3.1-8b"
MOST_WAYS = 40_000
either = lambda *values: st.sampled_from(values)  # noqa: E731


@st.composite
def studies(draw: st.DrawFn) -> Study:
    years = draw(st.integers(1, 3))
    sites: list[dict[str, Any]] = [{"name": "here", "grid": "300"}, {"name": "there", "grid": "40", "pue": 1.5}]
    sites = [
        site
        | {"price_usd_per_kwh": draw(either(0.05, 0.3)), "demand_charge_usd_per_kw_month": draw(either(0.0, 20.0))}
        | draw(either({}, {"intensity_trend_per_year": -0.3}, {"price_trend_per_year": 0.3}))
        | draw(either({}, {}, {"max_units": 2}))
        for site in sites[: draw(st.integers(1, 2))]
    ]
    buy = {"gpu": L4, "host": "l4-server-4", "tp": [1], "max_batch": [8], "price_usd": 20_000}
    buy |= draw(
        either(
            {},
            {"resale_per_year": 0.7},
            {"usable_years": 1},
            {"max_units": 2},
            {"lead_time_years": 0.5 if years > 1 else 0.0},
        )
    )
    big = {"gpu": A100, "host": "hgx-a100-80gb-4", "tp": [1], "max_batch": [32]}
    more = draw(
        either(
            big | {"price_usd": 60_000, "usable_years": 2},
            big | {"tenure": "lease", "price_usd_per_h": 4.0, "sites": ["here"]},
            big | {"price_usd_per_h": 3.0, "sites": ["here"]},
            big | {"tenure": "on-demand", "price_usd_per_h": draw(either(2.0, 40.0)), "sites": ["here"]},
        )
    )
    old = {"gpu": L4, "host": "l4-server-4", "tp": [1], "max_batch": [8], "site": "here", "units": 2}
    old |= draw(either({}, {"usable_years": 1}, {"resale_usd": 9000, "resale_per_year": 0.6}))
    table = [{"prompt_tokens": 500, "output_tokens": 200}]
    grows = draw(either(0.0, 0.7, -0.4))
    return Study.model_validate(
        {
            "demand": {"model": LLAMA, "rate_per_s": 3, "buckets": table, "growth_per_year": grows},
            "sites": sites,
            "catalogue": [buy, *draw(either([], [more], [more]))],
            "owned": draw(either([], [old])),
            "objective": draw(either("carbon", "cost", "energy")),
            "discount_rate": draw(either(0.0, 0.2)),
            "horizon_years": float(years),
            "purchase_years": draw(either([0], list(range(years)))),
            "by_year": True,
            "gap": 0.0,
        }
    )


@dataclass(frozen=True)
class Group:
    """An entry at a site."""

    entry: Offer | Owned
    site: int


class Brute:
    """All of a study worked out from its text."""

    def __init__(self, study: Study) -> None:
        self.study, self.years = study, int(study.horizon_years)
        self.rates = [[0.0, 0.0] for _ in range(self.years)]  # mean and peak
        for part in demand.build(study).slices:
            self.rates[part.year][part.hour is None] = part.rate_per_s
        self.point = study.safe_utilisation * study.demand.rate_per_s / self.rates[0][1]  # rate of year 0
        names = [site.name for site in study.sites]
        entries = [(each, each.sites or names) for each in study.catalogue] + [
            (each, [each.site]) for each in study.owned
        ]
        self.groups = [Group(entry, names.index(name)) for entry, at in entries for name in at]

    def worth(self, grams: float = 0.0, usd: float = 0.0, joules: float = 0.0) -> float:
        return {"carbon": grams, "cost": usd, "energy": joules}[self.study.objective]

    def factor(self, years: float) -> float:
        return float((1 + self.study.discount_rate) ** -years)

    def drawn(self, g: int, joules: float, year: int) -> float:
        """What joules at the plug of a group are worth in a year."""
        site = self.study.sites[self.groups[g].site]
        kwh = joules * site.pue / KWH_J
        usd = kwh * (site.price_usd_per_kwh or 0.0) * (1 + site.price_trend_per_year) ** year * self.factor(year + 0.5)
        grams = kwh * float(site.grid) * (1 + site.intensity_trend_per_year) ** year
        return self.worth(grams, usd, joules * site.pue)

    def watt(self, g: int, year: int) -> float:
        """What a watt of the highest hour costs in a year."""
        site = self.study.sites[self.groups[g].site]
        usd = site.pue / 1000.0 * site.demand_charge_usd_per_kw_month * 12 * self.factor(year + 0.5)
        return self.worth(usd=usd)

    def request(self, g: int) -> tuple[float, float]:
        """Unit seconds and joules above idle of a request."""
        entry = self.groups[g].entry
        model, host = model_of(catalog.gpu(entry.gpu).name, LLAMA, 1, "bf16", 1.0), catalog.host(entry.host or "")
        one = serve(model, 500, 200, entry.max_batch[0])
        assert one is not None
        rented = isinstance(entry, Offer) and entry.tenure == "on-demand"
        at = self.study.safe_utilisation if rented else self.point
        return one.instance_s / host.gpus / self.study.safe_utilisation, part_load_j(model, 500, 200, one, at)

    def idle_w(self, g: int) -> float:
        entry = self.groups[g].entry
        host = catalog.host(entry.host or "")
        return model_of(catalog.gpu(entry.gpu).name, LLAMA, 1, "bf16", 1.0).idle_w * host.gpus + host.power_w

    def kg(self, g: int) -> tuple[float, float]:
        host = catalog.host(self.groups[g].entry.host or "")
        return embodied.gpu_embodied(catalog.gpu(host.gpu)).mid_kg * host.gpus, embodied.host_embodied(host).mid_kg

    def an_hour(self, g: int) -> float:
        """An hour of a leased or rented unit, undiscounted: embodied carbon apart from its price."""
        gpus, host = self.kg(g)
        return (gpus / 5 + host / 6) * 1000 / 8760

    def ways(self, g: int) -> list[tuple[int, int, float]]:
        """First year, first year without, worth: every way to have a unit."""
        entry, years = self.groups[g].entry, self.years
        if isinstance(entry, Owned):
            last = min(years, entry.usable_years or years)
            if entry.resale_usd is None:
                return [(0, last, 0.0)]
            keeps = entry.resale_per_year or 0.0
            lost = {u: entry.resale_usd * (1 - keeps**u * self.factor(u)) for u in range(1, last + 1)}
            return [(0, u, self.worth(usd=usd)) for u, usd in lost.items()]
        gpus, host = self.kg(g)
        first = math.ceil(entry.lead_time_years)
        found = []
        if entry.tenure == "lease":
            for y in range(first, years):
                usd = (entry.price_usd_per_h or 0.0) * 8760 * self.factor(y + 0.5)
                found.append((y, y + 1, self.worth(self.an_hour(g) * 8760, usd)))
        for y in (y for y in self.study.purchase_years if y >= first and entry.tenure == "buy"):
            last = min(years, y + (entry.usable_years or years))
            left = min(years - y, entry.usable_years or years)
            grams = 1000 * (gpus * min(1, left / 5) + host * min(1, left / 6))
            for u in range(y + 1, last + 1) if entry.resale_per_year else [last]:
                if entry.price_usd is None:
                    usd = (entry.price_usd_per_h or 0.0) * 8760 * sum(self.factor(i + 0.5) for i in range(y, u))
                else:
                    back = (entry.resale_per_year or 0.0) ** (u - y) * self.factor(u) if entry.resale_per_year else 0.0
                    usd = entry.price_usd * (self.factor(y) - back)
                found.append((y, u, self.worth(grams, usd)))
        return found

    def year(self, year: int, there: tuple[int, ...]) -> float:
        """The least that a year costs with so many units of each bought group there."""
        best = math.inf
        for on in itertools.product(*(range(n + 1) for n in there)):
            cost = 0.0
            room = list(map(float, on))
            for g, n in enumerate(on):
                watts = self.idle_w(g)
                cost += n * (self.drawn(g, watts * YEAR_S, year) + self.watt(g, year) * watts)
            for peak in (False, True):
                cost += self.filled(year, peak, room)
            best = min(best, cost)
        return best

    def filled(self, year: int, peak: bool, room: list[float]) -> float:
        """The cheapest first, until all requests of the hours (or the peak) are served."""
        rate, offers = self.rates[year][peak], []
        for g, group in enumerate(self.groups):
            unit_s, joules = self.request(g)
            load, cost = rate * unit_s, 0.0
            had_s = (1 - self.study.demand.peak_quantile) * YEAR_S if peak else YEAR_S
            rented = isinstance(group.entry, Offer) and group.entry.tenure == "on-demand"
            if rented:
                assert isinstance(group.entry, Offer)
                usd = (group.entry.price_usd_per_h or 0.0) * self.factor(year + 0.5)
                cost += self.worth(self.an_hour(g), usd) * load * had_s / 3600
                cost += self.drawn(g, self.idle_w(g) * load * had_s, year)
            if not peak:
                watts = rate * joules + (load * self.idle_w(g) if rented else 0.0)
                cost += self.drawn(g, rate * joules * had_s, year) + self.watt(g, year) * watts
            most = 1.0 if rented else min(1.0, room[g] / load)
            offers.append((cost, most))
        left, total = 1.0, 0.0
        for cost, most in sorted(offers):
            taken = min(left, most)
            left, total = left - taken, total + cost * taken
        return total if left < 1e-9 else math.inf

    def best(self) -> float:
        """The least over every number of every way."""
        ways = [(g, *way) for g in range(len(self.groups)) for way in self.ways(g)]
        need = [math.ceil(max(peak for _, peak in self.rates) * self.request(g)[0]) for g in range(len(self.groups))]
        assume(math.prod(1 + need[g] for g, *_ in ways) <= MOST_WAYS)
        memo = cache(self.year)
        found = math.inf
        for counts in itertools.product(*(range(need[g] + 1) for g, *_ in ways)):
            there = [[0] * len(self.groups) for _ in range(self.years)]
            cost = 0.0
            for n, (g, first, until, worth) in zip(counts, ways, strict=True):
                cost += n * worth
                for y in range(first, until):
                    there[y][g] += n
            if cost < found and self.allowed(counts, ways, there):
                found = min(found, cost + sum(memo(y, tuple(row)) for y, row in enumerate(there)))
        return found

    def allowed(self, counts: tuple[int, ...], ways: list[Any], there: list[list[int]]) -> bool:
        for entry in [*self.study.catalogue, *self.study.owned]:
            mine = sum(n for n, (g, *_) in zip(counts, ways, strict=True) if self.groups[g].entry is entry)
            most = entry.units if isinstance(entry, Owned) else entry.max_units
            if most is not None and mine > most:
                return False
        for s, site in enumerate(self.study.sites):
            for row in there:
                if site.max_units is not None:
                    here = sum(n for g, n in enumerate(row) if self.groups[g].site == s)
                    if here > site.max_units:
                        return False
        return True


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(studies())
def test_a_plan_equals_brute_force(study: Study) -> None:
    rented = any(offer.tenure == "on-demand" for offer in study.catalogue)
    assume(not (rented and any(site.max_units is not None for site in study.sites)))
    known = Brute(study).best()
    try:
        program = market.build(study, demand.build(study)).program
    except Infeasible:
        assert known == math.inf
        return
    solution = solve_program(program, gap_rel=0.0)
    if known == math.inf:
        assert solution.status == "infeasible"
        return
    assert solution.status == "optimal"
    assert solution.objective == pytest.approx(known, rel=2e-6)
