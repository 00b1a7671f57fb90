"""Runs side by side, and which assumption would turn the answer round.

Two runs are compared like for like: totals where horizon and completed tokens are equal, else grams per output token,
and the result says which. Their difference is then taken again under each assumption that both share; errors that both
have cancel, and only those that differ between the two can turn its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbonfleet.sweep.figures import non_dominated
from carbonfleet.sweep.folder import point_record
from profiles import catalog, embodied
from profiles.inputs import InputError, read_json, read_yaml
from profiles.units import lifetime_rate_g_per_s

TRAFFIC = ("trace", "workload", "generator", "seed", "sort_trace", "allow_bad_rows")
SAME_TOKENS, SAME_MIX = 1e-3, 0.05
PER_1K = 1000.0
OPERATIONAL = ("gpu_busy", "gpu_idle", "host")


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """One run: its directory's name, summary and resolved scenario."""

    name: str
    summary: dict[str, Any]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """One assumption, shared by all runs: how it changes a pool's parts in grams."""

    name: str
    parts: Callable[[Loaded, dict[str, Any]], dict[str, float]]


def load(folder: str | Path) -> Loaded:
    """Read what comparing needs of a run directory, or of a sweep's point given as FOLDER:NUMBER.

    Raises:
        InputError: not a run directory, or a partial run.
    """
    path = Path(folder)
    sweep, colon, number = str(folder).rpartition(":")
    if colon and number.isdigit() and not path.exists():
        return _checked(path, *_point(sweep, int(number)))
    for name in ("summary.json", "config.yaml"):
        if not (path / name).is_file():
            raise InputError(f"has no {name}", file=path, mend="give a folder that simulate -o wrote")
    summary = read_json(path / "summary.json")
    if not isinstance(summary, dict) or not all("parts_g" in pool for pool in summary.get("pools", [{}])):
        raise InputError("is no run's summary", file=path / "summary.json", mend="write it anew with simulate -o")
    return _checked(path, summary, read_yaml(path / "config.yaml")[0])


def _point(sweep: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    record = point_record(sweep, number)
    if "summary" not in record:
        what = f"point {number} is a plan, not a run"
        mend = "write it with sweep --print-config, plan it with optimize -o and simulate its scenario.yaml"
        raise InputError(what, file=sweep, mend=mend)
    return record["summary"], record["config"]


def _checked(path: Path, summary: dict[str, Any], config: dict[str, Any]) -> Loaded:
    if summary.get("partial"):
        raise InputError("is a partial run", file=path, mend="simulate it to the end")
    if not summary["tokens"]["output"]:
        raise InputError("completed no request", file=path, mend="nothing can be compared per token")
    return Loaded(path.name or str(path), summary, config)


def compare(folders: list[str]) -> dict[str, Any]:
    """Compare runs with the first of them.

    Raises:
        InputError: fewer than two, no run directories, or traffic too different to compare.
    """
    if len(folders) < 2:
        raise InputError("one run alone cannot be compared", field="RUN", mend="give two or more run directories")
    runs = [load(folder) for folder in folders]
    base = runs[0]
    return {
        "runs": [_row(run) for run in runs],
        "pairs": [_pair(base, other) for other in runs[1:]],
        "pareto": pareto(runs),
    }


def _row(run: Loaded) -> dict[str, Any]:
    s = run.summary
    cost = s["cost_usd"]
    return {
        "run": run.name,
        "carbon_g": s["carbon_g"]["total"],
        "low_g": s["carbon_g"]["low"],
        "high_g": s["carbon_g"]["high"],
        "operational_g": s["carbon_g"]["operational"],
        "embodied_g": s["carbon_g"]["embodied"],
        "carbon_g_per_1k_output_tokens": s["carbon_g_per_1k_output_tokens"],
        "energy_j": s["energy_j"]["total"],
        "slo_attainment": s["slo"]["attainment"],
        "ttft_p99_s": s["ttft_s"]["p99"],
        "tpot_p99_s": s["tpot_s"]["p99"],
        "cost_usd": cost,
        "cost_usd_per_1k_output_tokens": None if cost is None else cost / s["tokens"]["output"] * PER_1K,
        "completed": s["requests"]["completed"],
        "output_tokens": s["tokens"]["output"],
        "horizon_s": s["horizon_s"],
    }


def pareto(runs: list[Loaded]) -> list[str]:
    """Runs that no other beats in grams per token, p99 TTFT and (where all are priced) dollars per token at once."""
    rows = [_row(run) for run in runs]
    keys = ["carbon_g_per_1k_output_tokens", "ttft_p99_s"]
    if all(row["cost_usd"] is not None for row in rows):
        keys.append("cost_usd_per_1k_output_tokens")
    best = non_dominated([[row[key] for key in keys] for row in rows])
    return [row["run"] for row, kept in zip(rows, best, strict=True) if kept]


def _pair(a: Loaded, b: Loaded) -> dict[str, Any]:
    basis, factor_a, factor_b = _basis(a, b)
    worlds = _worlds([a, b])
    totals = [(factor_a * total(w, a), factor_b * total(w, b)) for w in worlds]
    signs = [right - left for left, right in totals]
    flips = [w.name for w, sign in zip(worlds, signs, strict=True) if sign * signs[0] < 0]
    under = [
        {
            "assumption": world.name,
            "base_g": left,
            "other_g": right,
            "difference_g": right - left,
            "difference_rel": (right - left) / left if left else None,
        }
        for world, (left, right) in zip(worlds, totals, strict=True)
    ]
    return {
        "base": a.name,
        "other": b.name,
        "basis": basis,
        "differs_in": list(differences(a.config, b.config)),
        "difference_g": under[0]["difference_g"],
        "difference_rel": under[0]["difference_rel"],
        "under": under,
        "flips_under": flips,
        "flips_at_intensity_factor": _flip_factor(a, b, factor_a, factor_b),
    }


def _basis(a: Loaded, b: Loaded) -> tuple[str, float, float]:
    """How the two are made comparable, and what each run's grams are multiplied by.

    Raises:
        InputError: their requests are of another kind, so that no factor makes them comparable.
    """
    tokens = [run.summary["tokens"] for run in (a, b)]
    same_tokens = abs(tokens[1]["output"] / tokens[0]["output"] - 1.0) <= SAME_TOKENS
    same_traffic = all(a.config.get(key) == b.config.get(key) for key in TRAFFIC)
    if same_traffic and same_tokens and a.summary["horizon_s"] == b.summary["horizon_s"]:
        return "totals: the same traffic, horizon and completed tokens", 1.0, 1.0
    mix = [t["prompt"] / t["output"] for t in tokens]
    if abs(mix[1] / mix[0] - 1.0) > SAME_MIX:
        what = f"{mix[0]:.2f} prompt tokens per output token in {a.name}, {mix[1]:.2f} in {b.name}"
        raise InputError(f"the runs serve different traffic: {what}", field="RUN", mend="replay one trace in both")
    why = [
        text
        for text, holds in (
            ("traffic", same_traffic),
            ("completed tokens", same_tokens),
            ("horizon", a.summary["horizon_s"] == b.summary["horizon_s"]),
        )
        if not holds
    ]
    basis = f"per 1,000 output tokens, because {' and '.join(why)} differ{'s' if len(why) == 1 else ''}"
    return basis, PER_1K / tokens[0]["output"], PER_1K / tokens[1]["output"]


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Keys of two scenarios that differ, with both values; `name` alone is no difference."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if where or key != "name":
                yield from differences(a.get(key), b.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (left, right) in enumerate(zip(a, b, strict=True)):
            named = left.get("name") if isinstance(left, dict) else None
            yield from differences(left, right, f"{where}[{named if named is not None else k}]")
    elif a != b:
        yield f"{where}: {_short(a)} / {_short(b)}"


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def total(world: World, run: Loaded) -> float:
    """Grams of a run in a world."""
    return sum(sum(world.parts(run, pool).values()) for pool in run.summary["pools"])


def _as_reported(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
    return dict(pool["parts_g"])


def _worlds(runs: list[Loaded]) -> list[World]:
    """The runs as reported, then under each assumption by itself."""
    found = [World("as reported", _as_reported)]
    found += [World(f"embodied at its {end} figure", _embodied_end(end)) for end in ("low", "high")]
    found.append(World("operational carbon alone", _scaled(embodied_=0.0)))
    if any(spec.get("sunk") for run in runs for spec in run.config["pools"]):
        found.append(World("what was bought before (sunk) emits no embodied carbon", _avoidable))
    found += [
        World(f"embodied preset {preset}", made) for preset in embodied.PRESETS if (made := _preset(preset, runs))
    ]
    found.append(World("no host: neither its power nor its making", _without_host))
    found.append(World("PUE 1 everywhere", _scaled(overhead=0.0)))
    found += [World(f"every grid x {x:g}", _scaled(grid=x)) for x in (0.5, 2.0)]
    found += [
        World(f"power of {key} {sign} its band of {band:g}", _power(key, band if sign == "x" else 1.0 / band))
        for key, band in _bands(runs).items()
        for sign in ("x", "/")
    ]
    return found


def _scaled(grid: float = 1.0, overhead: float = 1.0, embodied_: float = 1.0) -> Callable[..., dict[str, float]]:
    def parts(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
        factors = dict.fromkeys(OPERATIONAL, grid) | {"overhead": grid * overhead, "embodied": embodied_}
        return {name: value * factors[name] for name, value in pool["parts_g"].items()}

    return parts


def _avoidable(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
    """What a decision can still avoid: hardware that stands there already is made, whatever is decided."""
    sunk = {spec["name"] for spec in run.config["pools"] if spec.get("sunk")}
    return {**pool["parts_g"], "embodied": 0.0 if pool["name"] in sunk else pool["parts_g"]["embodied"]}


def _embodied_end(end: str) -> Callable[..., dict[str, float]]:
    def parts(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
        return {**pool["parts_g"], "embodied": pool[f"embodied_{end}_g"]}

    return parts


def _without_host(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
    parts = dict(pool["parts_g"])
    drawn = sum(parts[name] for name in OPERATIONAL)
    kept = (drawn - parts["host"]) / drawn if drawn else 1.0
    gpus, host = _rates(run, pool, run.config["accounting"]["preset"])
    return parts | {
        "host": 0.0,
        "overhead": parts["overhead"] * kept,
        "embodied": parts["embodied"] * (gpus / (gpus + host) if gpus + host else 1.0),
    }


def _rates(run: Loaded, pool: dict[str, Any], preset: str) -> tuple[float, float]:
    """Grams per second of one unit's GPUs and of its host under a preset, by the run's own boundary and lives."""
    rules = run.config["accounting"]
    given_kg = rules.get("embodied_kg") if preset == rules["preset"] else None
    with catalog.using(run.config.get("own_catalog")):
        host = catalog.host(pool["host"])
        chip = embodied.gpu_embodied(catalog.gpu(pool["gpu"]), preset, given_kg)
    body_kg = embodied.host_embodied(host).mid_kg if rules["boundary"] == "server" else 0.0
    gpus = lifetime_rate_g_per_s(chip.mid_kg * host.gpus, rules["lifetime_years"])
    return gpus, lifetime_rate_g_per_s(body_kg, rules["host_lifetime_years"])


def _preset(preset: str, runs: list[Loaded]) -> Callable[..., dict[str, float]] | None:
    """The runs under a preset; None where it knows one of their GPUs not, or their boundary is another."""

    def parts(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
        own, other = (sum(_rates(run, pool, name)) for name in (run.config["accounting"]["preset"], preset))
        return {**pool["parts_g"], "embodied": pool["parts_g"]["embodied"] * other / own if own else 0.0}

    if any(run.config["accounting"]["boundary"] != "server" for run in runs):
        return None
    try:
        for run in runs:
            for pool in run.summary["pools"]:
                parts(run, pool)
    except InputError:
        return None
    return parts


def _bands(runs: list[Loaded]) -> dict[str, float]:
    """Power bands of the profiles in use, by GPU, model and tp: one profile is one error, shared by all its pools."""
    found: dict[str, float] = {}
    for run in runs:
        for source in run.summary["sources"]:
            if source["what"].startswith("profile ") and "power x/" in source.get("band", ""):
                band = float(source["band"].rpartition("power x/")[2])
                if band > 1.0:
                    found[source["what"].removeprefix("profile ")] = band
    return found


def _power(key: str, factor: float) -> Callable[..., dict[str, float]]:
    def parts(run: Loaded, pool: dict[str, Any]) -> dict[str, float]:
        made = dict(pool["parts_g"])
        if not key.startswith(f"{pool['gpu']}_{pool['model']}_tp{pool['tp']}_"):
            return made
        drawn = sum(made[name] for name in OPERATIONAL)
        more = (made["gpu_busy"] + made["gpu_idle"]) * (factor - 1.0)
        return made | {
            "gpu_busy": made["gpu_busy"] * factor,
            "gpu_idle": made["gpu_idle"] * factor,
            "overhead": made["overhead"] * (1.0 + more / drawn if drawn else 1.0),
        }

    return parts


def _flip_factor(a: Loaded, b: Loaded, factor_a: float, factor_b: float) -> float | None:
    """By what every grid's intensity would have to be multiplied for the two to be equal; None if nothing does."""

    def difference(kind: str) -> float:
        return factor_b * float(b.summary["carbon_g"][kind]) - factor_a * float(a.summary["carbon_g"][kind])

    operational, made = difference("operational"), difference("embodied")
    return -made / operational if operational * made < 0 else None
