"""What a reader must know of a plan: what it assumes, and what is doubtful about the units that were taken."""

from __future__ import annotations

from optimizer.choices import operating_point
from optimizer.demand import Load
from optimizer.market import Market
from optimizer.offers import Offer
from optimizer.purchase import priced
from optimizer.solver import Solution
from optimizer.study import Study, StudySite
from sim.scenario import Accounting


def assumptions(study: Study, load: Load, market: Market, rounds: int) -> list[str]:
    """What a plan rests on, a line each."""
    rules = study.accounting
    return [
        *load.assumptions,
        f"horizon {study.horizon_years:g} years; grid: hours of the day of the year from {study.start:%Y-%m-%d}",
        f"embodied: {rules.preset}, boundary {rules.boundary}, whole at purchase minus what remains at the horizon's "
        f"end, linear over {_lives(rules)}; owned units are sunk and count none",
        f"host power {'counted' if rules.host_power else 'left out'}; powered units idle at loaded power all horizon",
        f"capacity: {100 * study.safe_utilisation:g} % of full-load instance time (safe_utilisation), peak included",
        "TTFT is judged as prefill, half a decode step and an M/G/1 wait at safe utilisation; TPOT at the full batch; "
        "each class alone or in the demand's mix, whichever is milder",
        f"precision {study.precision} unless said otherwise; each pool has one configuration for the whole horizon"
        if not study.reconfigure
        else "configurations of a unit change by the hour at no cost (reconfigure)",
        *_site_assumptions(study, market),
        *_tenures(study),
        _pricing(study, load, rounds),
    ]


def _site_assumptions(study: Study, market: Market) -> list[str]:
    found = []
    for site in study.sites:
        found.append(f"{site.name}: PUE {site.pue:g}, {market.kind_of_intensity} intensity, {_trend(site)}")
        if site.price_usd_per_kwh is None and (study.objective == "cost" or study.limits.budget_usd is not None):
            found.append(f"{site.name}: no electricity price, so cost leaves electricity out")
        if site.demand_charge_usd_per_kw_month:
            found.append(f"{site.name}: the demand charge is paid on the highest hourly mean of typical days")
    return found


def _tenures(study: Study) -> list[str]:
    """What is assumed of units that are not simply bought, of slow clocks and of roles."""
    tenures = {offer.tenure for offer in study.catalogue}
    units = [*study.catalogue, *study.owned]
    found = []
    if tenures & {"lease", "on-demand"}:
        found.append("leased and rented units: embodied carbon by the hours they are had, over their lifetimes")
    if "on-demand" in tenures:
        found.append("on-demand units are rented in fractions as the load asks, peaks paid as long as they last")
    if study.reserve.lose_site:
        found.append("units kept for the loss of a site are off until then; nothing is counted for booting them")
    if study.discount_rate:
        found.append(f"dollars discounted by {100 * study.discount_rate:g} % a year, running costs at mid-year")
    if any(min(unit.clocks) < 1.0 for unit in units):
        found.append("clocks below the full one: step times and power are modelled (profiles.dvfs)")
    if study.apart_by_role and study.kv_transfer is not None:
        link = study.kv_transfer
        found.append(f"KV transfer within a site over {link.gb_per_s:g} GB/s at {link.joules_per_gb:g} J/GB")
    return found


def _trend(site: StudySite) -> str:
    if site.intensity_by_year is not None:
        return f"by year times {', '.join(f'{factor:g}' for factor in site.intensity_by_year)}"
    trend = site.intensity_trend_per_year
    return f"{100 * trend:+g} % a year" if trend else "no trend over the years"


def _pricing(study: Study, load: Load, rounds: int) -> str:
    return (
        f"joules of a request: at the batch that carries the utilisation an earlier of {rounds} rounds found for that "
        f"unit; {100 * operating_point(study, load):.0f} % of full load for units no round took (a fleet sized "
        "for the peak, at the mean rate); the bound is the last round's"
    )


def _lives(rules: Accounting) -> str:
    return f"{rules.lifetime_years:g} years (GPUs) and {rules.host_lifetime_years:g} (hosts)"


def doubts(study: Study, market: Market, solution: Solution) -> list[str]:
    """What a reader must know about the profiles of the units that were taken."""
    groups = {bought.group for bought, units in zip(market.bought, solution.units, strict=True) if units}
    groups |= {column.option for column, share in zip(market.program.columns, solution.shares, strict=True) if share}
    taken = [market.choices[c] for g in sorted(groups) for c in market.groups[g]]
    warnings = [
        f"{choice.label}: its profile is {choice.profile.provenance.kind} (tier {choice.profile.provenance.tier})"
        for choice in taken
        if choice.profile.provenance.kind in ("predicted", "synthetic")
    ]
    for choice in taken:
        if any(not isinstance(served, str) and served.extrapolated for served in choice.served):
            warnings.append(f"{choice.label}: some requests lie outside the measured range of its profile")
    if any(site.price_usd_per_kwh for site in study.sites) or any(priced(study, each) for each in study.catalogue):
        unpriced = {c.gpu for c in taken if isinstance(c.unit, Offer) and not priced(study, c.unit)}
        warnings += [f"dollars leave out what units of {gpu} cost: no price is known" for gpu in sorted(unpriced)]
    if solution.status == "time_limit":
        warnings.append("the time limit came before the proof: this is the best plan found, not the optimum")
    return list(dict.fromkeys(warnings))
