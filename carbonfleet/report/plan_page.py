"""The page of a plan: the board's page first, then what stands behind it; built from the plan's directory alone."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from carbonfleet import explain_text as said
from carbonfleet import plan_folder
from carbonfleet.plan_folder import PlanFolder
from carbonfleet.report import plan_charts
from carbonfleet.report.page import figure_of, headline, made_of, table, warnings, whole
from carbonfleet.text import energy, figure, grams, share
from profiles.units import SECONDS_PER_YEAR

_CLASSES = 24  # rows of the placement table that are shown


def build(folder: str | Path) -> str:
    """The whole page of a plan's directory.

    Raises:
        InputError: not a plan's directory.
    """
    found = plan_folder.read(folder)
    specs = plan_charts.charts(found)
    return whole(f"{found.plan['study']}: the fleet to buy and keep", _body(found, specs), specs)


def _body(found: PlanFolder, specs: dict[str, Any]) -> Iterable[str]:
    plan = found.plan
    yield f"<header><h1>{escape(plan['study'])}</h1><p>{escape(_what(plan))}</p></header><main>"
    yield headline(_cards(found))
    yield warnings(plan["warnings"])
    yield from _board(found, specs)
    yield "<h2>The recommended fleet</h2>" + _proof(plan) + _fleet(plan)
    if "fleet" in specs:
        yield figure_of("fleet", "Units kept on, year by year.")
    yield from _replay(found.parts["verdict"])
    yield from _beside(found.parts["beside"] or {}, specs)
    yield from _dispatch(plan, specs)
    yield from _explained(found.parts["explained"])
    yield from _unused(plan, found.parts["explained"])
    yield "<h2>Assumptions</h2>" + _list(plan["assumptions"])
    yield "<h2>Sources</h2>" + _list(plan["sources"])
    yield from made_of(found.manifest, "The study, with every default", found.study)
    yield "</main>"


def _what(plan: dict[str, Any]) -> str:
    years = plan["horizon_s"] / SECONDS_PER_YEAR
    fleet = ", ".join(
        f"{row['units']} x {row['host']} at {row['site']}{' (owned)' if row['owned'] else ''}" for row in plan["fleet"]
    )
    rate = plan["requests"] / plan["horizon_s"]
    return f"{fleet or 'no unit'}, for {figure(rate)} requests a second over {years:g} years"


def _cards(found: PlanFolder) -> list[tuple[str, str, str]]:
    plan = found.plan
    parts = f"{grams(plan['operational_g'])} operational, {grams(plan['embodied_g'])} avoidable embodied"
    rate = f"{grams(plan['carbon_g_per_1k_output_tokens'])} per 1,000 output tokens"
    told = f"over {plan['horizon_s'] / SECONDS_PER_YEAR:g} years: {parts}; {rate}"
    cards = [("", f"{grams(plan['carbon_g'])} CO2e", told), *_against(found)]
    if plan["usd"] is not None:
        cards.append(("", f"${figure(plan['usd'])}", "units and electricity, as far as prices were given"))
    return [*cards, _verdict(found.parts["verdict"])]


def _against(found: PlanFolder) -> list[tuple[str, str, str]]:
    """The recommended fleet beside today's, or beside buying nothing where today's cannot serve."""
    board = found.parts["board"]
    for row in board["fleets"] if board else []:
        if row["name"] in ("today", "buy nothing") and row["operational_g"] is not None:
            total = row["operational_g"] + row["embodied_g"]
            change = f"{100 * (found.plan['carbon_g'] / total - 1):+.0f} %" if total else "-"
            return [("", change, f"CO2e against {row['name']} ({grams(total)})")]
    return []


def _verdict(verdict: dict[str, Any] | None) -> tuple[str, str, str]:
    if verdict is None:
        return "miss", "not replayed", "the simulator has not checked latency and energy"
    kept = next((row for row in verdict["rows"] if row["what"].startswith("requests keeping")), None)
    told = "" if kept is None else f"{100 * kept['replayed']:.2f} % of requests kept every limit in the replay"
    return "" if verdict["verified"] else "miss", str(verdict["verdict"]), told


def _board(found: PlanFolder, specs: dict[str, Any]) -> Iterable[str]:
    board = found.parts["board"]
    if not board:
        return
    yield "<h2>For the board</h2>"
    if "board" in specs:
        told = "Tonnes by year; new units' avoidable embodied carbon counts whole in the year of purchase (pale)."
        yield figure_of("board", told)
    verdict = _verdict(found.parts["verdict"])[1]
    rows = [
        [*said.board_row(row), verdict if row["name"] == "recommended" else "not replayed" if row["years"] else "-"]
        for row in board["fleets"]
    ]
    yield table([*said.BOARD_HEAD, "SLO"], rows)
    yield table(["", "which units"], [[row["name"], said.board_fleet(row)] for row in board["fleets"]], 2)
    told = (
        "Over the horizon, all on the same demand and promises. kW of the first year: mean at the plug (PUE included), "
    )
    yield f"<p class=soft>{told}nameplate of GPUs and hosts.</p>"
    if any(row["years"] for row in board["fleets"]):
        years = table(said.YEAR_HEAD, said.year_rows(board["fleets"]))
        yield f"<details><summary>Year by year</summary>{years}</details>"


def _proof(plan: dict[str, Any]) -> str:
    unit = plan["objective_unit"]
    bound = "no bound was proved" if plan["bound"] is None else f"proved bound {said.amount(plan['bound'], unit)}"
    gap = "" if plan["gap"] is None else f", gap {said.per_cent(plan['gap'])}"
    status = {
        "optimal": "Optimal within the gap that was asked for",
        "rounded": "Rounded: units kept on were rounded up, the gap holds for the rounded plan",
        "time_limit": "Not proved: the best fleet found when the time was up",
    }.get(plan["status"], plan["status"])
    told = f"{status}. Objective {said.amount(plan['objective'], unit)}, {bound}{gap}."
    return f"<p>{escape(told)}</p>"


def _fleet(plan: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['units']} x {row['host']} at {row['site']}{' (owned)' if row['owned'] else ''}",
            f"tp{row['tp']}, batch {row['max_batch']}",
            row["tier"],
            share(row["share"], 1.0),
            f"{share(row['utilisation'], 1.0)} / {share(row['peak_utilisation'], 1.0)}",
            grams(row["operational_g"]),
            grams(row["embodied_g"]),
        ]
        for row in plan["fleet"]
    ]
    head = ["units", "setting", "profile", "traffic", "busy / in the peak", "operational", "embodied"]
    return table(head, rows)


def _replay(verdict: dict[str, Any] | None) -> Iterable[str]:
    yield "<h2>Plan and replay</h2>"
    if verdict is None:
        yield "<p>Not replayed (optimize --no-verify): the plan is unverified.</p>"
        return
    hours = figure(verdict["horizon_s"] / 3600)
    yield f"<p>{escape(verdict['verdict'])}: {verdict['requests']:,} requests over {hours} h in the simulator.</p>"
    yield warnings(verdict["misses"], "Where they disagree")
    rows = [
        [
            f"{row['what']} ({row['unit']})",
            figure(row["planned"], 4),
            figure(row["replayed"], 4),
            "-" if row["difference"] is None else f"{100 * row['difference']:+.1f} %",
        ]
        for row in verdict["rows"]
    ]
    yield table(["", "plan", "replay", "difference"], rows) + _list(verdict["notes"])


def _beside(beside: dict[str, Any], specs: dict[str, Any]) -> Iterable[str]:
    if "pareto" in specs:
        yield "<h2>Cost against carbon</h2>"
        yield figure_of("pareto", "Fleets that no other of the sweep beats in both dollars and tonnes.")
        rows = [
            [_units(row), figure(row["carbon_price_usd_per_t"]), figure(row["usd"]), grams(row["carbon_g"])]
            for row in beside["pareto"]
        ]
        yield table(["fleet", "carbon price $/t", "dollars", "CO2e"], rows)
    if beside.get("compare"):
        best = beside["compare"][0]["carbon_g"]
        rows = [
            [
                row["name"],
                _units(row) or row["why"],
                grams(row["carbon_g"]),
                f"{100 * (row['carbon_g'] / best - 1):+.1f} %" if best and row["carbon_g"] is not None else "-",
                energy(row["energy_j"]),
                figure(row["usd"]),
            ]
            for row in beside["compare"]
        ]
        yield "<h2>Beside other fleets</h2>" + table(
            ["", "fleet", "CO2e", "against this", "energy", "dollars"], rows, 2
        )


def _units(row: dict[str, Any]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in row["fleet"].items())


def _dispatch(plan: dict[str, Any], specs: dict[str, Any]) -> Iterable[str]:
    if "dispatch" not in specs:
        return
    yield "<h2>Who serves what, and when</h2>"
    several = any(part["future"] for part in plan["slices"])
    when = "first year" + (", the first of the study's futures" if several else "")
    yield figure_of("dispatch", f"Requests per second of each pool by hour of the typical day, {when}.")
    yield figure_of("intensity", "Carbon intensity of each site in the same hours.")
    pools = [row["pool"] for row in plan["fleet"]]
    classes = sorted(enumerate(plan["classes"]), key=lambda pair: -pair[1]["share"])
    rows = [
        [
            f"{each['prompt_tokens']:,} in, {each['output_tokens']:,} out",
            f"{100 * each['share']:.1f} %",
            *_shares(plan, k, pools),
        ]
        for k, each in classes[:_CLASSES]
    ]
    yield table(["requests of about (tokens)", "of all", *pools], rows)
    if len(classes) > _CLASSES:
        yield f"<p class=soft>The {_CLASSES} most frequent of {len(classes)} classes; plan.json has all.</p>"


def _shares(plan: dict[str, Any], number: int, pools: list[str]) -> list[str]:
    """How a class's requests over the horizon fall on the pools."""
    weight = {part["name"]: part["seconds"] * part["rate_per_s"] for part in plan["slices"]}
    sums = dict.fromkeys(pools, 0.0)
    for row in plan["dispatch"]:
        if row["class"] == number:
            sums[row["pool"]] += row["share"] * weight[row["slice"]]
    return [share(sums[pool], sum(sums.values())) for pool in pools]


def _explained(found: dict[str, Any] | None) -> Iterable[str]:
    if found is None:
        yield "<h2>How firm it is</h2>"
        yield "<p>Not asked for: optimize --explain adds shadow prices, runner-ups and tipping points.</p>"
        return
    yield f"<h2>What one more of a limit is worth</h2>{_list(said.shadow_lines(found) or ['no limit was given'])}"
    yield "<h2>Runner-up fleets</h2>"
    rows = [[fleet.rstrip(":"), more.rstrip(","), proof] for fleet, more, proof in said.runner_up_rows(found)]
    yield table(["fleet", "objective", "proof"], rows) + f"<p>{escape(found['runners_up']['note'])}.</p>"
    yield "<h2>Where the recommended fleet changes</h2>"
    yield table(
        ["turned alone", "the recommended fleet changes"], [[r["what"], r["words"]] for r in found["tipping_points"]], 2
    )
    yield table(["counted otherwise", "the best fleet"], [[row["what"], row["words"]] for row in found["cases"]], 2)
    if found["wins"]:
        yield "<h2>In the study's futures</h2>" + _list([f"{r['words']} ({r['fleet']})" for r in found["wins"]])
    yield f"<p class=soft>{escape(found['method'])}.</p>"


def _unused(plan: dict[str, Any], found: dict[str, Any] | None) -> Iterable[str]:
    rows = [[f"{row['host']} ({row['gpu']}{said.tenure(row)})", row["why"]] for row in plan["unused"] if row.get("why")]
    if not rows:
        return
    enters = said.entries_by_type(found) if found else {}
    yield "<h2>Why the others are not in it</h2>"
    if enters:
        head = ["type", "why not", "what would bring it in"]
        yield table(head, [[*row, "; ".join(enters.get(row[0], ["nothing that was looked at"]))] for row in rows], 3)
    else:
        yield table(["type", "why not"], rows, 2)


def _list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
