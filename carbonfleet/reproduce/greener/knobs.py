"""Which knob saves most at a load within the promise: chosen by the steady state, judged by the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from carbonfleet.reproduce.greener.paper import CLASSES, HARMLESS, TBT_LIMIT_S, Lengths
from carbonfleet.reproduce.greener.server import MAX_NUM_SEQS, Gear, Point, Server, gears
from profiles.inputs import InputError
from profiles.profile import save
from sim.run import run
from sim.scenario import Scenario

LOADS = {"low": 0.2, "medium": 0.5, "high": 0.8}  # of what the baseline carries within both limits
KNOBS: dict[str, dict[str, Any]] = {
    "clock": {"clock": "both"},
    "decode clock": {"clock": "decode"},
    "tp": {"tps": True},
    "tp and batch": {"tps": True, "used": True},
    "all": {"tps": True, "used": True, "clock": "both"},
}
SINGLE = ("clock", "decode clock", "tp", "tp and batch")
KEPT = 0.99  # of requests within both limits
REQUESTS = 1000  # of a replay
TRIES = 12
APART = 0.01  # of the baseline's power, between gears that are replayed


@dataclass(frozen=True, slots=True)
class Replay:
    """A load replayed on the server in a gear."""

    attainment: float
    ttft_p99_s: float
    tbt_mean_s: float
    power_w: float


class Knobs:
    """A server's savings at every load, each gear replayed at most once."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._replays: dict[tuple[Gear, str, float], Replay] = {}

    def rows(self) -> list[dict[str, Any]]:
        """One a class and load.

        Raises:
            InputError: the baseline keeps the limits of no class.
        """
        made = [self._row(lengths, load) for lengths in CLASSES for load in LOADS]
        if all(row["baseline"] is None for row in made):
            what = f"{self._server.baseline.named} keeps the limits of no class of requests"
            raise InputError(what, field="--gpu", mend="a faster GPU or a smaller model")
        return made

    def _row(self, lengths: Lengths, load: str) -> dict[str, Any]:
        base_gear = self._server.baseline
        rate = LOADS[load] * self._server.most_per_s(base_gear, lengths)
        base = self._server.point(base_gear, lengths.prompt, lengths.output, rate) if rate else None
        if base is None:
            return {"class": lengths.name, "load": load, "rate_per_s": 0.0, "baseline": None, "knobs": {}, "best": None}
        known = self._replay(base_gear, lengths, rate)
        knobs = {name: self._best(reach, lengths, rate, base, known) for name, reach in KNOBS.items()}
        knobs["all"] = max(knobs.values(), key=lambda knob: knob["saving"])  # what one knob reaches, all reach
        saved = {name: knobs[name]["saving"] for name in SINGLE}
        best = max(saved, key=saved.__getitem__)
        return {
            "class": lengths.name,
            "load": load,
            "rate_per_s": rate,
            "baseline": _told(base, known, base, known),
            "knobs": knobs,
            "best": best if saved[best] > 0.0 else None,
            "harmless": harmless(self._server, lengths, rate, base),
        }

    def _best(self, reach: dict[str, Any], lengths: Lengths, rate: float, base: Point, known: Replay) -> dict[str, Any]:
        """Of the gears whose means keep both limits the one that a replay finds best; the baseline where none is.

        Replayed are the most promising ones, a step of APART between them, as long as one can still be better.
        """
        points = [p for gear in gears(self._server, **reach) if (p := self._point(gear, lengths, rate))]
        best, least_w, next_w, tries = _told(base, known, base, known), known.power_w, 0.0, 0
        for point in sorted((p for p in points if p.keeps(lengths.ttft_s)), key=lambda p: p.power_w):
            if tries == TRIES or point.power_w >= min(base.power_w, least_w * base.power_w / known.power_w):
                break
            if point.power_w < next_w:
                continue
            found, tries = self._replay(point.gear, lengths, rate), tries + 1
            next_w = point.power_w + APART * base.power_w
            if found.attainment >= min(KEPT, known.attainment) and found.power_w < least_w:
                best, least_w = _told(point, found, base, known), found.power_w
        return best

    def _point(self, gear: Gear, lengths: Lengths, rate: float) -> Point | None:
        return self._server.point(gear, lengths.prompt, lengths.output, rate)

    def _replay(self, gear: Gear, lengths: Lengths, rate: float) -> Replay:
        key = (gear, lengths.name, rate)
        if key not in self._replays:
            self._replays[key] = replay(self._server, gear, lengths, rate)
        return self._replays[key]


def replay(server: Server, gear: Gear, lengths: Lengths, rate: float) -> Replay:
    """Poisson arrivals on the instances in use; the server's other GPUs idle with their weights loaded."""
    profile = server.profile(gear)
    fixed = {"prompt": _fixed(lengths.prompt), "output": _fixed(lengths.output)}
    duration_s = REQUESTS / rate
    pool = {
        **{"name": "server", "site": "here", "gpu": profile.gpu, "model": profile.model, "tp": gear.tp},
        **{"instances": gear.used, "precision": profile.precision, "host": server.host.name},
        "max_num_seqs": MAX_NUM_SEQS,
    }
    with TemporaryDirectory() as folder:
        save(profile, Path(folder) / "profile.json")
        scenario = Scenario.model_validate(
            {
                "name": gear.named,
                "generator": {"duration_s": duration_s, "rate_per_s": rate, "lengths": fixed},
                "horizon_s": duration_s,
                "sites": [{"name": "here", "grid": "0", "pue": 1.0}],
                "pools": [pool],
                "slo": {"ttft_s": lengths.ttft_s, "tpot_s": TBT_LIMIT_S},
                "accounting": {"host_power": False},
                "profiles": [folder],
            }
        )
        made = run(scenario)
    inside_j = made.summary["energy_j"]["total"] - made.summary["energy_j"]["drain"]
    return Replay(
        attainment=made.summary["slo"]["attainment"],
        ttft_p99_s=made.summary["ttft_s"]["p99"],
        tbt_mean_s=made.summary["tbt_s"]["mean"],
        power_w=inside_j / made.horizon_s,
    )


def harmless(server: Server, lengths: Lengths, rate: float, base: Point) -> dict[str, Any]:
    """The gear of least power whose mean TTFT and TBT are hardly above the baseline's, at the same rate."""
    reach = [*gears(server, tps=True, used=True, clock="both"), *gears(server, tps=True, used=True, clock="decode")]
    points = [p for gear in reach if (p := server.point(gear, lengths.prompt, lengths.output, rate))]
    kept = [p for p in points if p.ttft_s <= HARMLESS * base.ttft_s and p.tbt_s <= HARMLESS * base.tbt_s]
    best = min(kept, key=lambda p: p.power_w)
    return {"gear": best.gear.named, "saving": 1.0 - best.power_w / base.power_w}


def _told(point: Point, found: Replay, base: Point, known: Replay) -> dict[str, Any]:
    return {
        "gear": point.gear.named,
        "saving": 1.0 - found.power_w / known.power_w,
        "saving_steady": 1.0 - point.power_w / base.power_w,
        "batch": point.batch,
        "ttft_s": point.ttft_s,
        "tbt_s": point.tbt_s,
        "power_w": point.power_w,
        "replay": {
            "attainment": found.attainment,
            "ttft_p99_s": found.ttft_p99_s,
            "tbt_mean_s": found.tbt_mean_s,
            "power_w": found.power_w,
        },
    }


def _fixed(tokens: int) -> dict[str, Any]:
    return {"distribution": "fixed", "tokens": tokens}
