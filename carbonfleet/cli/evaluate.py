"""`profiles evaluate`: how well a predictor meets rows the user holds."""

from __future__ import annotations

from typing import Any

import click

from carbonfleet.cli import options as opt
from carbonfleet.cli.predict import PREDICTORS

FORMATS = ("aiconfigurator", "mlenergy", "llm-inference-bench", "llmco2")  # profiles.predict.evaluate; a test compares


@click.command(
    "evaluate",
    epilog="Example: carbonfleet profiles evaluate silicon_sample.csv --format aiconfigurator --json",
    context_settings=opt.HELP,
)
@click.argument("file", type=opt.FILE)
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True, help="Whose format the rows have.")
@click.option(
    "--predictor", type=click.Choice(PREDICTORS), default="roofline", show_default=True, help="Which predictor."
)
@opt.json_option
def command(file: str, kind: str, predictor: str, as_json: bool) -> None:
    """Predict every measured row of FILE and say how far off: errors, coverage of the 90 % bands, by group.

    Rows that contradict themselves are flagged by fixed rules (docs/predict.md), a twentieth of the file at most;
    `overall` leaves them out, `all_rows` has them.
    """
    from profiles.predict import predictor as predictors
    from profiles.predict.evaluate import evaluate

    found = evaluate(file, kind, predictors.load(predictor))
    if found["unknown"]:
        names = ", ".join(f"{name} ({n} rows)" for name, n in found["unknown"].items())
        opt.warn([f"of no known shape, so not scored: {names}"])
    if found.get("unmeasured"):
        names = ", ".join(f"{name} ({n} rows)" for name, n in found["unmeasured"].items())
        opt.warn([f"{file}: empty or zero, taken as not measured: {names}"])
    if found.get("ignored"):
        opt.warn([f"{file}:1: columns not of this format, ignored: {', '.join(found['ignored'])}"])
    if found.get("doubtful"):
        first = found["doubtful"][0]
        more = f"{len(found['doubtful'])} rows break a rule and are scored all the same; the first"
        opt.warn([f"{more}: {file}:{first['line']}: {first['why']}"])
    if as_json:
        opt.print_json(found)
    else:
        click.echo("\n".join(_text(found)))


def _text(d: dict[str, Any]) -> list[str]:
    from carbonfleet.text import table

    head = ["", "", "rows", "TPOT", "TTFT", "power", "energy", "in band", "half-width"]
    rows = [
        ["without flagged rows", "", str(d["scored"]), *_cells(d["overall"])],
        ["all rows", "", str(d["scored"] + d["flagged"]), *_cells(d["all_rows"])],
    ]
    for g in d["groups"]:
        name = " ".join(g[k] for k in ("gpu", "model", "engine")) if "gpu" in g else g["kind"]
        rows.append([name, g["tier"], str(g["scored"]), *_cells(g)])
    counts = f"{d['rows']} rows: {d['scored']} scored, {d['flagged']} flagged, {d['repeated']} repeat others"
    return [f"{d['file']}: {counts}", f"predictor {d['predictor']}: {d['source']}", "", *table(head, rows, 2)]


def _cells(summary: dict[str, float | None]) -> list[str]:
    keys = ("tpot_mape", "ttft_mape", "power_mape", "energy_mape", "band_coverage", "band_half_width")
    return ["-" if summary[key] is None else f"{100 * summary[key]:.1f} %" for key in keys]  # type: ignore[operator]
