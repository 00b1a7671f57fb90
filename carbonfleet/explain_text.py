"""The board's fleets and what stands behind a plan, as text: sentences that the page shows too, and aligned tables."""

from __future__ import annotations

from typing import Any

from carbonfleet.text import energy, figure, grams, table

BOARD_HEAD = ["", "carbon", "operational", "embodied", "dollars", "mean kW", "nameplate kW"]
YEAR_HEAD = ["", "year", "operational t", "embodied t", "dollars", "mean kW", "nameplate kW"]


def board_report(rows: list[dict[str, Any]]) -> str:
    """The four fleets: what they come to, one a line, then what they are."""
    lines = table(BOARD_HEAD, [board_row(row) for row in rows])
    told = [f"{row['name']}: {board_fleet(row)}" for row in rows]
    return "\n".join(["for the board, over the horizon:", *(f"  {line}" for line in [*lines, *told])])


def board_row(row: dict[str, Any]) -> list[str]:
    """One fleet of the board: its totals, and its first year's kW."""
    if row["operational_g"] is None:
        return [row["name"], *["-"] * 6]
    first = row["years"][0]
    amounts = [row["operational_g"] + row["embodied_g"], row["operational_g"], row["embodied_g"]]
    power = [figure(first["mean_kw"]), figure(first["nameplate_kw"])]
    return [row["name"], *map(grams, amounts), figure(row["usd"]), *power]


def board_fleet(row: dict[str, Any]) -> str:
    """What a fleet of the board is, and what is not proved of it; or why it cannot be."""
    if row["operational_g"] is None:
        return str(row["why"])
    proof = "" if row["status"] == "optimal" else f" ({row['status'].replace('_', ' ')}{_gap(row['gap'])})"
    return f"{row['fleet']}{proof}"


def _gap(gap: float | None) -> str:
    return ", no bound" if gap is None else f", gap {per_cent(gap)}"


def per_cent(gap: float) -> str:
    """A gap in per cent; what is below a millionth is nothing."""
    return f"{round(100 * gap, 4):.3g} %"


def year_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Every fleet in every year."""
    return [
        [
            row["name"],
            f"{year['year']:.0f}",
            figure(year["operational_g"] / 1e6),
            figure(year["embodied_g"] / 1e6),
            figure(year["usd"]),
            figure(year["mean_kw"]),
            figure(year["nameplate_kw"]),
        ]
        for row in rows
        for year in row["years"]
    ]


def explained_report(found: dict[str, Any]) -> str:
    """Every analysis behind the plan in sentences."""
    blocks = [
        ["one more of a limit:", *shadow_lines(found)],
        ["runner-up fleets:", *runner_up_lines(found)],
        ["what would bring in the others:", *entry_lines(found)],
        ["the recommended fleet changes:", *tip_lines(found)],
        ["counted otherwise:", *case_lines(found)],
        ["in the futures of the study:", *(row["words"] for row in found["wins"])],
    ]
    told = [[head, *(f"  {line}" for line in lines)] for head, *lines in blocks if lines]
    return "\n\n".join("\n".join(block) for block in [*told, [f"({found['method']})"]])


def amount(value: float, unit: str) -> str:
    """A figure of the objective with its unit."""
    if unit == "usd":
        return f"{figure(value)} usd"
    return grams(value) if unit == "g" else energy(value)


def shadow_lines(found: dict[str, Any]) -> list[str]:
    """'1 MW more power at quebec would save 12 t a year'; limits that are worth nothing share a line."""
    unit, lines, idle = found["objective_unit"], [], []
    for row in found["shadow_prices"]:
        if not row["saved"]:
            idle.append(row)
            continue
        saves = f"{row['limit']} would save {amount(row['per_year'], unit)} a year ({_known(row, unit)})"
        lines.append(f"{saves}; the fleet is then {row['fleet']}")
    if idle:
        unsure = [row["at_most"] for row in idle if row["at_most"] is not None]
        bound = f" (at most {amount(max(unsure), unit)} over the horizon)" if unsure and max(unsure) else ""
        doubt = "" if len(unsure) == len(idle) else "; for some no bound was proved"
        lines.append(f"no saving was found{bound} from {', or '.join(row['limit'] for row in idle)}{doubt}")
    return lines


def _known(row: dict[str, Any], unit: str) -> str:
    """How surely a saving is known."""
    if row["at_most"] is None:
        return "no bound was proved"
    if row["at_most"] - row["at_least"] <= 0.01 * row["saved"]:
        return "proved within 1 %"
    years = row["saved"] / row["per_year"]
    return f"proved: between {amount(row['at_least'] / years, unit)} and {amount(row['at_most'] / years, unit)}"


def runner_up_lines(found: dict[str, Any]) -> list[str]:
    """Each fleet with what it comes to and its proof, then whether there may be more."""
    others = found["runners_up"]
    return [*(" ".join(row) for row in runner_up_rows(found)), others["note"]]


def runner_up_rows(found: dict[str, Any]) -> list[list[str]]:
    """Fleet, how much more it comes to, and how sure that is."""
    unit = found["objective_unit"]
    return [
        [
            row["fleet"] + ":",
            f"{amount(row['objective'], unit)}, {100 * row['more']:+.2f} %,",
            ("gap unknown" if row["gap"] is None else f"gap {per_cent(row['gap'])}")
            + ("" if row["proved"] else ", not proved to be the next best"),
        ]
        for row in found["runners_up"]["fleets"]
    ]


def entry_lines(found: dict[str, Any]) -> list[str]:
    """Each type's figures on one line."""
    return [f"{name}: {'; '.join(told)}" for name, told in entries_by_type(found).items()]


def tenure(row: dict[str, Any]) -> str:
    """How a type is had, where it is not bought."""
    return "" if row["tenure"] == "buy" else f", {row['tenure']}"


def entries_by_type(found: dict[str, Any]) -> dict[str, list[str]]:
    """What would bring in each type."""
    types: dict[str, list[str]] = {}
    for row in found["entries"]:
        name = f"{row['host']} ({row['gpu']}{tenure(row)})"
        types.setdefault(name, []).append(row["words"])
    return types


def tip_lines(found: dict[str, Any]) -> list[str]:
    """Each figure with the values at which the fleet changes."""
    return [f"{row['what']}: {row['words']}" for row in found["tipping_points"]]


def case_lines(found: dict[str, Any]) -> list[str]:
    """Each other way to count."""
    return [f"{row['what']}: {row['words']}" for row in found["cases"]]
