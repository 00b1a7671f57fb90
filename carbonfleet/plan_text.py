"""A plan as short plain text for people: fleet, proof, books, why the others lost, and what the replay found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from carbonfleet.explain_text import tenure
from carbonfleet.text import energy, figure, grams, share, table

if TYPE_CHECKING:
    from optimizer.placed import Placement
    from optimizer.plan import Plan
    from optimizer.refine import Verdict


def plan_report(plan: Plan, verdict: Verdict | None) -> str:
    """The plan on one screen, and the replay's verdict where there was one."""
    blocks = [_proof(plan), _fleet(plan), _unused(plan), _replay(verdict), ["assumed:", *_indented(plan.assumptions)]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def beside_report(found: dict[str, Any]) -> str:
    """Other fleets, the front and the break-even, as far as they were asked for."""
    blocks = []
    if "compare" in found:
        blocks.append(["beside other fleets, same demand, promises and profiles:", *_rivals(found["compare"])])
    if "pareto" in found:
        rows = [
            [figure(r["carbon_price_usd_per_t"]), figure(r["usd"], 4), grams(r["carbon_g"]), _units(r)]
            for r in found["pareto"]
        ]
        head = ["carbon price $/t", "dollars", "carbon", "fleet"]
        blocks.append(["cost against carbon:", *table(head, rows, text_columns=0)])
    if "hours" in found:
        year = found["hours"]
        off = year["operational_g"] / year["planned_g"] - 1.0 if year["planned_g"] else 0.0
        what = f"every hour of the first year: {grams(year['operational_g'])} operational, {100 * off:+.2f} %"
        blocks.append([f"{what} of the plan's typical days ({grams(year['planned_g'])}); {energy(year['energy_j'])}"])
    if "replace_or_keep" in found:
        rows = [_even(row) for row in found["replace_or_keep"]]
        head = [
            "embodied by",
            "keep",
            "replace",
            "less",
            "even at g/kWh",
            "at years",
            "at host power",
            "paper's direction",
        ]
        told = "the paper's direction: old GPUs where the grid is cleaner than that, new ones where it is not"
        blocks.append(["replace or keep:", *table(head, rows, text_columns=1), told])
    return "\n\n".join("\n".join(block) for block in blocks)


def _even(row: dict[str, Any]) -> list[str]:
    even = [figure(row[key]) for key in ("breakeven_intensity_g_per_kwh", "breakeven_lifetime_years")]
    better = "keep" if row["keep_wins"] else "replace"
    hosts = row["breakeven_host_power_share"]
    even += ["-" if hosts is None else f"x {figure(hosts)}", "holds" if row["paper_direction_holds"] else "does not"]
    return [f"{row['preset']}, {row['boundary']}", grams(row["keep_g"]), grams(row["new_g"]), better, *even]


def _rivals(rows: list[dict[str, Any]]) -> list[str]:
    best = rows[0]["carbon_g"]
    cells = []
    for row in rows:
        if row["carbon_g"] is None:
            cells.append([row["name"], "-", "-", "-", "-", row["why"][:60]])
            continue
        more = f"{100 * (row['carbon_g'] / best - 1):+.1f} %" if best else "-"
        cells.append(
            [row["name"], grams(row["carbon_g"]), more, energy(row["energy_j"]), figure(row["usd"]), _units(row)]
        )
    return table(["", "carbon", "against this", "energy", "dollars", "fleet"], cells, text_columns=1)


def _units(row: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in row["fleet"].items())


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _proof(plan: Plan) -> list[str]:
    """Objective, bound, gap and the true status."""
    words: dict[str, Callable[[float], str]] = {"g": grams, "J": energy, "usd": lambda value: f"{figure(value, 5)} usd"}
    amount = words[plan.objective_unit]
    proof = "no bound was proved" if plan.bound is None else f"bound {amount(plan.bound)}"
    gap = "" if plan.gap is None else f", gap {100 * plan.gap:.3g} %"
    return [
        f"{plan.status}: {amount(plan.objective)} over {plan.horizon_s / 3600:,.0f} h; {proof}{gap}",
        f"carbon {grams(plan.carbon_g)}: operational {grams(plan.operational_g)}, avoidable embodied "
        f"{grams(plan.embodied_g)} ({share(plan.embodied_g, plan.carbon_g)}); "
        f"{grams(plan.carbon_g_per_1k_output_tokens)} per 1k output tokens; energy {energy(plan.energy_j)}",
    ]


def _fleet(plan: Plan) -> list[str]:
    """What to buy or keep, and how to run it."""
    rows = []
    models = {row.model for row in plan.fleet}
    for row in plan.fleet:
        owned = " (owned)" if row.owned else f" ({row.tenure})" if row.tenure != "buy" else ""
        setting = [_configured(row, len(models) > 1), f"{row.max_batch}", row.tier]
        carbon = [share(row.share, 1.0), share(row.utilisation, 1.0), grams(row.operational_g), grams(row.embodied_g)]
        rows.append([f"{row.units} x {row.host}{owned}", row.site, *setting, *carbon])
    head = ["units", "site", "runs", "batch", "tier", "traffic", "busy", "operational", "embodied"]
    return [*table(head, rows, text_columns=2), *_by_year(plan)]


def _configured(row: Placement, name_model: bool) -> str:
    """A pool's configuration: what is as usual goes without saying."""
    words = [row.model] if name_model else []
    words += [f"tp{row.tp}", *([] if row.precision == "bf16" else [row.precision])]
    words += [f"clock {row.clock:g}"] if row.clock < 1.0 else []
    return " ".join([*words, *([row.role] if row.role != "both" else [])])


def _by_year(plan: Plan) -> list[str]:
    """Units on year by year where that changes, what is sold, and what a site is charged for its highest hour."""
    lines = []
    for row in plan.fleet:
        if len(set(row.on)) > 1 or row.on[0] != row.units:
            sold = ", ".join(f"{count} sold in year {year}" for year, count in row.sold.items())
            lines.append(f"  {row.pool}: on by year {', '.join(map(str, row.on))}{'; ' + sold if sold else ''}")
    for charge in plan.charges:
        limit = "" if charge["limit_kw"] is None else f" of at most {figure(charge['limit_kw'], 4)}"
        paid = f", {figure(charge['usd'], 4)} usd" if charge["usd"] else ""
        lines.append(f"  {charge['site']}, year {charge['year']}: {figure(charge['kw'], 4)} kW{limit} drawn{paid}")
    trends = [
        f"{100 * row['intensity_trend_per_year']:+g} % a year {grams(row['operational_g'])}" for row in plan.trends
    ]
    return [*lines, f"  operational on grids that get cleaner, this fleet as it is: {', '.join(trends)}"]


def _unused(plan: Plan) -> list[str]:
    """Why each other type is not in the plan."""
    lines = [f"  {row['gpu']} ({row['host']}{tenure(row)}): {row['why']}" for row in plan.unused if row.get("why")]
    return ["not chosen:", *lines] if lines else []


def _replay(verdict: Verdict | None) -> list[str]:
    """Plan beside replay."""
    if verdict is None:
        return ["not replayed: the plan is unverified"]
    rows = [
        [
            f"{row.what} ({row.unit})" if row.unit else row.what,
            figure(row.planned, 4),
            figure(row.replayed, 4),
            "-" if row.difference is None else f"{100 * row.difference:+.1f} %",
        ]
        for row in verdict.rows
    ]
    word = "verified" if verdict.verified else f"unverified ({'; '.join(verdict.misses)})"
    head = f"replay of {verdict.requests:,} requests over {verdict.horizon_s / 3600:,.1f} h: {word}"
    lost = [
        f"without {each.lost}: {'nothing left to serve' if each.attainment is None else share(each.attainment, 1.0)}"
        + ("" if each.attainment is None else " of requests keep the limits")
        for each in verdict.losses
    ]
    return [head, *table(["", "plan", "replay", "difference"], rows), *_indented([*lost, *verdict.notes])]
