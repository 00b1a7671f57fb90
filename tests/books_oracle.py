"""A plan's books once more, written from docs/optimize.md: from plan.document(), the study and the profiles alone.

Nothing here comes from optimizer/ but the study's own words (its fields). Joules of a request depend on the round they
were priced in, which the document does not tell; they are held between those at a higher and a lower utilisation than
the plan ends with, and everything else follows exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from optimizer.study import Study
from profiles import catalog, dvfs, embodied
from profiles.profile import Profile, load_all, shipped_folder
from profiles.serve import Served, part_load_j, serve
from profiles.step import StepModel

HOUR_S, YEAR_S, KWH_J = 3600.0, 8760 * 3600.0, 3.6e6
Row = dict[str, Any]


@cache
def library() -> dict[tuple[str, str, int, str], Profile]:
    """The shipped profiles; of several the first, as the studies of these tests name no engine."""
    found: dict[tuple[str, str, int, str], Profile] = {}
    for _, each in load_all([shipped_folder()]):
        found.setdefault((each.gpu, each.model, each.tp, each.precision), each)
    return found


@cache
def model_of(gpu: str, llm: str, tp: int, precision: str, clock: float) -> StepModel:
    return StepModel(dvfs.at_clock(library()[gpu, llm, tp, precision], clock))


@cache
def served(row: tuple[Any, ...], prompt: int, output: int) -> Served:
    gpu, llm, tp, precision, clock, role, batch = row
    one = serve(model_of(gpu, llm, tp, precision, clock), prompt, output, batch, role)
    assert one is not None
    return one


@dataclass
class Pool:
    """A row of the fleet with what follows from it."""

    row: Row
    study: Study
    site: Any = None
    idle_w: float = 0.0
    instances: int = 1
    load: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # units, by slice
    drawn_j: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by requests, of the grid

    def __post_init__(self) -> None:
        row = self.row
        self.site = next(site for site in self.study.sites if site.name == row["site"])
        self.host = catalog.host(row["host"])
        self.instances = self.host.gpus // row["tp"]
        self.idle_w = self.model.idle_w / row["tp"] * self.host.gpus
        self.idle_w += self.host.power_w if self.study.accounting.host_power else 0.0

    @property
    def config(self) -> tuple[Any, ...]:
        return tuple(self.row[key] for key in ("gpu", "model", "tp", "precision", "clock", "role", "max_batch"))

    @property
    def model(self) -> StepModel:
        return model_of(*self.config[:5])

    @property
    def rented(self) -> bool:
        return bool(self.row["tenure"] == "on-demand")

    @property
    def entry(self) -> Any:
        """The study's entry it came from: in these tests GPU, tenure and ownership tell it."""
        if self.row["owned"]:
            found = [each for each in self.study.owned if catalog.gpu(each.gpu).name == self.row["gpu"]]
        else:
            found = [
                each
                for each in self.study.catalogue
                if (catalog.gpu(each.gpu).name, each.tenure) == (self.row["gpu"], self.row["tenure"])
            ]
        (one,) = found
        return one

    def units_s(self, each: Row) -> float:
        """Unit seconds at the safe share that one request of a class takes."""
        one = served(self.config, each["prompt_tokens"], each["output_tokens"])
        return one.instance_s / (self.instances * self.study.safe_utilisation)

    def request_j(self, each: Row, utilisation: float) -> float:
        """Joules above idle of one request at a utilisation, with PUE, the KV transfer of a prefill included."""
        prompt, output = each["prompt_tokens"], each["output_tokens"]
        one = served(self.config, prompt, output)
        joules = part_load_j(self.model, prompt, output, one, utilisation, self.row["role"])
        if self.row["role"] == "prefill":
            link = self.study.kv_transfer
            assert link is not None
            joules += self.model.profile.memory.kv_bytes_per_token * prompt / 1e9 * link.joules_per_gb
        return joules * self.site.pue

    def kg(self) -> tuple[float, float]:
        rules = self.study.accounting
        gpus = embodied.gpu_embodied(catalog.gpu(self.row["gpu"]), rules.preset, rules.embodied_kg).mid_kg
        host = embodied.host_embodied(self.host).mid_kg if rules.boundary == "server" else 0.0
        return gpus * self.host.gpus, host

    def last(self, year: int) -> int:
        """The first year without a unit that came in a year and was not sold."""
        years = int(self.study.horizon_years)
        if self.row["tenure"] == "lease":
            return year + 1
        return min(years, year + (self.entry.usable_years or years))

    def there(self, years: int) -> list[int]:
        """Units at the site in each year, on or off."""
        if years == 1:
            return [sum(self.row["bought"].values())]
        found = [0] * years
        for year, count in self.row["bought"].items():
            for y in range(int(year), self.last(int(year))):
                found[y] += count
        for year, count in self.row["sold"].items():  # until the end of its life
            for y in range(int(year), self.last(0) if len(self.row["bought"]) == 1 else years):
                found[y] -= count
        return found


class Checked:
    """A plan's document, checked against its study line by line."""

    def __init__(self, document: Row, study: Study) -> None:
        self.doc, self.study = document, study
        self.slices = {part["name"]: part for part in document["slices"]}
        assert len(self.slices) == len(document["slices"])
        self.years = 1 + max(part["year"] for part in document["slices"])
        self.pools = {row["pool"]: Pool(row, study) for row in document["fleet"]}
        self.year_s = [sum(p["seconds"] for p in self.slices.values() if p["year"] == y) for y in range(self.years)]
        for row in document["dispatch"]:
            pool, part = self.pools[row["pool"]], self.slices[row["slice"]]
            each = document["classes"][row["class"]]
            pool.load[row["slice"]] += self.rate(part, each) * row["share"] * pool.units_s(each)
            pool.drawn_j[row["slice"]] += row["energy_j"]

    def rate(self, part: Row, each: Row) -> float:
        return float(part["rates"][each["stream"]] * each["share"])

    def discount(self, years: float) -> float:
        return float((1 + self.study.discount_rate) ** -years)

    def everything(self) -> None:
        self.demand_is_served()
        self.capacity_suffices()
        self.limits_hold()
        self.requests_draw_what_they_should()
        self.books_agree()

    def demand_is_served(self) -> None:
        """Every class in every slice, prefill and decode; nothing at a lost site; KV caches stay at their site."""
        total: dict[tuple[int, str, str], float] = defaultdict(float)
        at: dict[tuple[int, str, str, str], float] = defaultdict(float)
        for row in self.doc["dispatch"]:
            role = row.get("role", "both")
            site = self.pools[row["pool"]].row["site"]
            assert site != self.slices[row["slice"]]["lost"]
            assert self.pools[row["pool"]].row["model"] == self.doc["classes"][row["class"]]["model"]
            for part in ("prefill", "decode") if role == "both" else (role,):
                total[row["class"], row["slice"], part] += row["share"]
            if role != "both":
                at[row["class"], row["slice"], site, role] += row["share"]
        for c, name in ((c, name) for c in range(len(self.doc["classes"])) for name in self.slices):
            for role in ("prefill", "decode"):
                assert math.isclose(total[c, name, role], 1.0, abs_tol=1e-5), (c, name, role, total[c, name, role])
        for c, name, site, _ in list(at):
            assert math.isclose(at[c, name, site, "prefill"], at[c, name, site, "decode"], abs_tol=1e-5)

    def capacity_suffices(self) -> None:
        spare = self.study.reserve.spare_units
        for pool in self.pools.values():
            row, there = pool.row, pool.there(self.years)
            if pool.rented:
                for year, on in enumerate(row["on"]):
                    mine = {name: part for name, part in self.slices.items() if part["year"] == year}
                    most = max(pool.load[name] for name, part in mine.items() if not part["lost"])
                    assert on == math.ceil(most - 1e-6)
                assert row["units"] == math.ceil(max(pool.load[name] for name in self.slices) - 1e-6)
                continue
            assert all(0 <= on <= have for on, have in zip(row["on"], there, strict=True)), (row["on"], there)
            peak = 0.0
            for name, part in self.slices.items():
                room = there[part["year"]] if part["lost"] else row["on"][part["year"]]
                extra = spare if pool.load[name] > 1e-6 and not part["lost"] else 0
                assert pool.load[name] + extra <= room + 1e-5 * max(1, room), (row["pool"], name)
                if room:
                    peak = max(peak, pool.load[name] / room)
            safe = self.study.safe_utilisation
            assert math.isclose(row["peak_utilisation"], peak * safe, rel_tol=1e-6, abs_tol=1e-9)
            asked = sum(pool.load[n] * p["seconds"] for n, p in self.slices.items())
            on_s = sum(p["seconds"] * row["on"][p["year"]] for p in self.slices.values())
            assert math.isclose(row["utilisation"], asked / on_s * safe if on_s else 0.0, rel_tol=1e-6, abs_tol=1e-9)

    def limits_hold(self) -> None:
        study, there = self.study, {name: pool.there(self.years) for name, pool in self.pools.items()}
        for site in study.sites:
            here = {n: p for n, p in self.pools.items() if p.row["site"] == site.name}
            for year in range(self.years):
                fixed = {n: p for n, p in here.items() if not p.rented}
                gpus = sum(there[n][year] * p.host.gpus for n, p in fixed.items())
                hosts = sum(there[n][year] for n in fixed)
                for name in (n for n, p in self.slices.items() if p["year"] == year):
                    more = {n: p.load[name] for n, p in here.items() if p.rented}
                    rented = sum(load * here[n].host.gpus for n, load in more.items())
                    assert gpus + rented <= (math.inf if site.max_gpus is None else site.max_gpus) + 1e-5
                    most = math.inf if site.max_units is None else site.max_units
                    assert hosts + sum(more.values()) <= most + 1e-5
                    if site.max_drawn_w is not None:
                        assert self.watts(site.name, name) <= site.max_drawn_w * (1 + 1e-6) + 1e-3
        for offer in study.catalogue:
            gpu = catalog.gpu(offer.gpu).name
            own = [p for p in self.pools.values() if (p.row["gpu"], p.row["tenure"]) == (gpu, offer.tenure)]
            assert all(p.row["site"] in offer.sites for p in own if offer.sites)
            self.available(offer, own)
        for stock in study.owned:
            mine = [p for p in self.pools.values() if p.row["owned"] and p.row["gpu"] == catalog.gpu(stock.gpu).name]
            assert sum(p.row["units"] for p in mine) <= stock.units
        new = [p.row for p in self.pools.values() if p.row["tenure"] == "buy"]
        most = study.limits.units
        assert sum(sum(row["bought"].values()) for row in new) <= (math.inf if most is None else most)
        for what, limit in (("usd", study.limits.budget_usd), ("carbon_g", study.limits.carbon_t)):
            if limit is not None:
                assert (self.doc[what] or 0.0) <= limit * (1e6 if what == "carbon_g" else 1.0) * (1 + 1e-6)

    def available(self, offer: Any, own: list[Pool]) -> None:
        """No more than can be had, none before it is sold."""
        first = offer.from_year + math.ceil(offer.lead_time_years)
        for year in range(self.years):
            by_year = math.inf if offer.units_by_year is None else offer.units_by_year[year]
            most = math.inf if offer.max_units is None else offer.max_units
            if offer.tenure == "on-demand":
                for name in (n for n, p in self.slices.items() if p["year"] == year):
                    had = sum(p.load[name] for p in own)
                    assert had <= min(most, by_year) + 1e-5
                    assert year >= first or had < 1e-6
                continue
            bought = sum(p.row["bought"].get(str(year), 0) for p in own)
            assert bought <= by_year
            assert not bought or year >= first
            if offer.tenure == "lease":
                assert bought <= most
            else:
                assert sum(sum(p.row["bought"].values()) for p in own) <= most
                assert not bought or year in self.study.purchase_years

    def watts(self, site: str, name: str) -> float:
        """What a site draws in a slice: units on, and requests (of a peak, by their joules at the same pool's rate)."""
        part, found = self.slices[name], 0.0
        for pool in self.pools.values():
            if pool.row["site"] != site:
                continue
            idle_w = pool.idle_w * pool.site.pue
            units = pool.load[name] if pool.rented or part["lost"] else pool.row["on"][part["year"]]
            found += units * idle_w
            for row in self.doc["dispatch"]:
                if (row["pool"], row["slice"]) == (pool.row["pool"], name):
                    each = self.doc["classes"][row["class"]]
                    found += self.rate(part, each) * row["share"] * self.seen_j(pool, row["class"])
        return found

    def seen_j(self, pool: Pool, c: int) -> float:
        """Joules of a request of a class on a pool, as the dispatch has them in any hour, else as they should be."""
        each = self.doc["classes"][c]
        for row in self.doc["dispatch"]:
            part = self.slices[row["slice"]]
            if (row["pool"], row["class"]) == (pool.row["pool"], c) and part["seconds"]:
                served_s = part["seconds"] * self.rate(part, each) * row["share"]
                idle_j = pool.idle_w * pool.site.pue * pool.units_s(each) if pool.rented else 0.0
                return float(row["energy_j"] / served_s - idle_j)
        return pool.request_j(each, self.study.safe_utilisation)

    def requests_draw_what_they_should(self) -> None:
        """Joules of requests lie between those at a fifth more and a fifth less utilisation than the plan ends with."""
        if any("joules were not priced" in each for each in self.doc["warnings"]):
            return
        kinds: dict[tuple[Any, ...], list[Pool]] = defaultdict(list)
        for pool in self.pools.values():
            keys = ("host", "model", "tp", "role", "owned", "tenure")
            kinds[tuple(pool.row[key] for key in keys)].append(pool)
        for pools in kinds.values():
            on_s = sum(p["seconds"] * q.row["on"][p["year"]] for p in self.slices.values() for q in pools)
            asked = sum(q.load[n] * p["seconds"] for n, p in self.slices.items() for q in pools)
            safe = self.study.safe_utilisation
            used = safe if pools[0].rented else asked / on_s * safe if on_s else 0.0
            if not used:
                continue
            for pool in pools:
                for row in self.doc["dispatch"]:
                    part = self.slices[row["slice"]]
                    if row["pool"] != pool.row["pool"] or not part["seconds"] or row["share"] < 1e-6:
                        continue
                    each = self.doc["classes"][row["class"]]
                    joules = self.seen_j(pool, row["class"])
                    assert pool.request_j(each, min(1.0, used * 1.06)) <= joules * (1 + 1e-6)
                    assert joules <= pool.request_j(each, used / 1.06) * (1 + 1e-6)

    def books_agree(self) -> None:
        """Joules, grams and dollars of each pool and year, their sums, and the objective."""
        doc, usd_known, usd = self.doc, True, 0.0
        energy = [0.0] * self.years
        grams = [0.0] * self.years
        embodied_g = 0.0
        for pool in self.pools.values():
            mine = [self.drawn(pool, year) for year in range(self.years)]
            for year, (joules, g, dollars) in enumerate(mine):
                told = pool.row["years"][year]
                same(told["energy_j"], joules)
                same(told["operational_g"], g)
                energy[year] += joules
                grams[year] += g
                usd += dollars
            own_g, own_usd = self.came(pool)
            same(pool.row["embodied_g"], own_g)
            same(pool.row["operational_g"], sum(g for _, g, _ in mine))
            same(pool.row["energy_j"], sum(j for j, _, _ in mine))
            embodied_g += own_g
            usd_known &= own_usd is not None
            usd += own_usd or 0.0
        charged = self.charged()
        same(sum(row["usd"] for row in doc["charges"]), charged)
        same(doc["energy_j"], sum(energy))
        same(doc["operational_g"], sum(grams))
        same(doc["embodied_g"], embodied_g)
        same(doc["carbon_g"], sum(grams) + embodied_g)
        if usd_known:
            same(doc["usd"] or 0.0, usd + charged)
        for year, row in enumerate(doc["years"]):
            same(row["energy_j"], energy[year])
            same(row["operational_g"], grams[year])
        priced = (doc["usd"] or 0.0) + doc["carbon_g"] / 1e6 * self.study.carbon_price_usd_per_t
        same(doc["objective"], {"carbon": doc["carbon_g"], "energy": doc["energy_j"]}.get(self.study.objective, priced))
        assert doc["bound"] is None or doc["bound"] <= doc["objective"] * (1 + 1e-9) + 1e-9

    def drawn(self, pool: Pool, year: int) -> tuple[float, float, float]:
        """Joules, grams and dollars of what a pool drew from the grid in a year (rent apart)."""
        joules = grams = 0.0
        for name, part in self.slices.items():
            if part["year"] != year:
                continue
            here = pool.drawn_j[name]
            if not pool.rented:
                here += pool.row["on"][year] * pool.idle_w * pool.site.pue * part["seconds"]
            joules += here
            grams += here / KWH_J * part["intensity_g_per_kwh"][pool.row["site"]]
        price = (pool.site.price_usd_per_kwh or 0.0) * (1 + pool.site.price_trend_per_year) ** year
        return joules, grams, joules / KWH_J * price * self.discount(year + 0.5)

    def came(self, pool: Pool) -> tuple[float, float | None]:
        """Embodied grams, and dollars of coming by the units of a pool; None where the document does not tell them."""
        row, study, rules = pool.row, self.study, self.study.accounting
        entry, (gpus_kg, host_kg) = pool.entry, pool.kg()
        horizon = study.horizon_years
        if row["owned"]:
            if entry.resale_usd is None:
                return 0.0, 0.0
            ends = {int(year): count for year, count in row["sold"].items()}
            ends[pool.last(0)] = ends.get(pool.last(0), 0) + row["units"] - sum(ends.values())
            keeps = entry.resale_per_year
            return 0.0, sum(n * entry.resale_usd * (1 - keeps**u * self.discount(u)) for u, n in ends.items())
        a_year_g = 1000.0 * (gpus_kg / rules.lifetime_years + host_kg / rules.host_lifetime_years)
        price_h = entry.price_usd_per_h or 0.0
        if row["tenure"] == "on-demand":
            hours = [0.0] * self.years
            for name, part in self.slices.items():
                hours[part["year"]] += pool.load[name] * (part["seconds"] or part["busy_s"]) / HOUR_S
            usd = sum(h * price_h * self.discount(y + 0.5) for y, h in enumerate(hours))
            return a_year_g * sum(hours) / 8760, usd
        bought = {int(year): count for year, count in row["bought"].items()}
        if row["tenure"] == "lease":
            usd = sum(n * price_h * 8760 * self.discount(y + 0.5) for y, n in bought.items())
            return a_year_g * sum(bought.values()), usd
        grams = 0.0
        usd_all: float | None = 0.0
        for year, count in bought.items():
            left = min(horizon - year, entry.usable_years or math.inf)
            used = gpus_kg * min(1.0, left / rules.lifetime_years) + host_kg * min(
                1.0, left / rules.host_lifetime_years
            )
            grams += 1000.0 * used * count
            if entry.price_usd is None:
                hours_usd = price_h * 8760 * sum(self.discount(y + 0.5) for y in range(year, pool.last(year)))
                whole = self.years > 1 or horizon == 1
                usd_all = (usd_all or 0.0) + count * (hours_usd if whole else price_h * 8760 * horizon)
            elif entry.resale_per_year is None:
                usd_all = (usd_all or 0.0) + count * entry.price_usd * self.discount(year)
        if entry.price_usd is not None and entry.resale_per_year is not None:
            usd_all = None
            if len(bought) == 1:
                (year,) = bought
                ends = {int(end): count for end, count in row["sold"].items()}
                ends[pool.last(year)] = ends.get(pool.last(year), 0) + bought[year] - sum(ends.values())
                keeps = entry.resale_per_year
                lost = {u: self.discount(year) - keeps ** (u - year) * self.discount(u) for u in ends}
                usd_all = sum(n * entry.price_usd * lost[u] for u, n in ends.items())
        return grams, usd_all

    def charged(self) -> float:
        """Demand charges: the highest hourly mean of each year, future and season, for its months."""
        found = 0.0
        for site in self.study.sites:
            parts: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
            for part in self.slices.values():
                if part["hour"] is not None and site.demand_charge_usd_per_kw_month:
                    parts[part["year"], part["future"], part["season"]].append(part)
            for (year, _, _), mine in parts.items():
                months = sum(part["seconds"] for part in mine) / YEAR_S * 12
                kw = max(self.watts(site.name, part["name"]) for part in mine) / 1000.0
                found += kw * months * site.demand_charge_usd_per_kw_month * self.discount(year + 0.5)
        return found


def same(told: float, found: float) -> None:
    """Equal but for rounding and for shares too small to be told."""
    assert math.isclose(told, found, rel_tol=2e-6, abs_tol=1e-6), (told, found)


def check(document: Row, study: Study) -> None:
    """Hold a plan's document against its study.

    Raises:
        AssertionError: they disagree.
    """
    Checked(document, study).everything()
