"""One server: a profile for each tp, its gears, and what a load comes to on it at steady state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from carbonfleet.reproduce.greener.paper import TBT_LIMIT_S, TPS, Lengths
from profiles import catalog, dvfs
from profiles.inputs import InputError
from profiles.predict import request, serving
from profiles.predict.step_profile import step_profile
from profiles.profile import Profile
from profiles.serve import Served, best_batch, serve, settled
from profiles.step import StepModel

MAX_NUM_SEQS = 256
DATE = "2026-11-21"


@dataclass(frozen=True, slots=True)
class Gear:
    """How the server is run: tp, each phase's SM clock as a share of the full one, instances in use."""

    tp: int
    prefill_clock: float
    decode_clock: float
    used: int

    @property
    def named(self) -> str:
        """Short, for tables: instances, tp and clock (of prefill and decode where they differ)."""
        clock = f"{self.decode_clock:.2f}"
        if self.prefill_clock != self.decode_clock:
            clock = f"{self.prefill_clock:.2f}/{clock}"
        return f"{self.used} x tp{self.tp}, {clock}"


@dataclass(frozen=True, slots=True)
class Point:
    """A load on the server in a gear: means at steady state; watts are those of its GPUs, idle ones included."""

    gear: Gear
    batch: float
    ttft_s: float
    tbt_s: float
    power_w: float
    busy: float

    def keeps(self, ttft_s: float) -> bool:
        """Whether both promises are kept by the means."""
        return self.ttft_s <= ttft_s and self.tbt_s <= TBT_LIMIT_S


class Server:
    """The largest host of a GPU, serving one model; profiles by tp, those that have room for a KV cache.

    Raises:
        InputError: an unknown name, no host for the GPU, or a model that does not fit it at all.
    """

    def __init__(self, gpu: str, model: str, precision: str, engine: str = "vllm") -> None:
        hosts = catalog.hosts_for(catalog.gpu(gpu).name)
        if not hosts:
            raise InputError(f"no host carries {gpu}", field="--gpu", mend="name a GPU that hosts.csv has a host for")
        self.host = max(hosts, key=lambda host: host.gpus)
        known: dict[int, Profile] = {}
        self.without: dict[int, str] = {}
        for tp in (tp for tp in TPS if tp <= self.host.gpus):
            cell = request.cell(gpu, model, tp, precision, engine)
            try:
                made = step_profile(serving.load(), cell)
            except InputError as error:
                self.without[tp] = error.what
                continue
            known[tp] = _dated(made)
        if not known:
            raise InputError(
                f"{model} in {precision} fits {self.host.name} at no tp of {', '.join(map(str, TPS))}",
                field="--model",
                mend="a smaller model, a smaller precision or a GPU with more memory",
            )
        self.take(known)

    def take(
        self, profiles: dict[int, Profile], voltage_at_rest: float = dvfs.VOLTAGE_AT_REST, drag: float = 0.0
    ) -> None:
        """Run on these profiles and this law of voltage from now on; decode is longer by drag x (1 / clock - 1)."""
        self.profiles, self._at_rest, self._drag = profiles, voltage_at_rest, drag
        self._models: dict[tuple[int, float, float], StepModel] = {}
        self._served: dict[tuple[int, float, float, int, int], Served | None] = {}
        self.idle_w = {tp: profile.idle.loaded_w / tp * self.host.gpus for tp, profile in profiles.items()}

    @property
    def tps(self) -> list[int]:
        """Those with a profile, ascending."""
        return sorted(self.profiles)

    def instances(self, tp: int) -> int:
        """Instances of `tp` GPUs that the server holds."""
        return self.host.gpus // tp

    @property
    def baseline(self) -> Gear:
        """What is done for performance alone: the largest tp at full clock."""
        tp = self.tps[-1]
        return Gear(tp, 1.0, 1.0, self.instances(tp))

    def profile(self, gear: Gear) -> Profile:
        """The profile of a gear; phases may run at clocks of their own."""
        at = dvfs.at_clock(self.profiles[gear.tp], gear.decode_clock, self._at_rest)
        if gear.prefill_clock != gear.decode_clock:
            other = dvfs.at_clock(self.profiles[gear.tp], gear.prefill_clock, self._at_rest)
            at = at.model_copy(update={"prefill": other.prefill})
        if self._drag and gear.decode_clock < 1.0:
            longer = 1.0 + self._drag * (1.0 / gear.decode_clock - 1.0)
            decode = at.decode.model_copy(update={"time_s": [longer * t for t in at.decode.time_s]})
            at = at.model_copy(update={"decode": decode})
        return at

    def model(self, gear: Gear) -> StepModel:
        """Its step model, made once."""
        key = (gear.tp, gear.prefill_clock, gear.decode_clock)
        if key not in self._models:
            self._models[key] = StepModel(self.profile(gear))
        return self._models[key]

    def full(self, gear: Gear, prompt: int, output: int) -> Served | None:
        """An instance at the largest batch within the TBT limit; None where not even one sequence is."""
        key = (gear.tp, gear.prefill_clock, gear.decode_clock, prompt, output)
        if key not in self._served:
            model = self.model(gear)
            batch = best_batch(model, prompt, output, TBT_LIMIT_S, MAX_NUM_SEQS)
            self._served[key] = serve(model, prompt, output, batch) if batch else None
        return self._served[key]

    def point(self, gear: Gear, prompt: int, output: int, rate_per_s: float) -> Point | None:
        """So many requests a second, shared evenly by the instances in use; None where they cannot keep up."""
        full, each_per_s = self.full(gear, prompt, output), rate_per_s / gear.used
        if full is None or full.instance_s * each_per_s > 1.0:
            return None
        found = settled(self.model(gear), prompt, output, full, 1.0 / each_per_s)
        busy = min(1.0, found.mean(lambda one: one.instance_s) * each_per_s)
        # between two batches: the queue is of the prefills that come, whichever of them runs
        between = replace(found.above, instance_s=busy / each_per_s, step_s=found.mean(lambda one: one.step_s))
        return Point(
            gear=gear,
            batch=found.mean(lambda one: float(one.batch)) * (busy if found.below is None else 1.0),
            ttft_s=between.ttft_s(busy),
            tbt_s=found.mean(lambda one: one.tpot_s or 0.0),
            power_w=self.idle_w[gear.tp] + rate_per_s * found.mean(lambda one: one.dynamic_j),
            busy=busy,
        )

    def most_per_s(self, gear: Gear, lengths: Lengths) -> float:
        """The largest rate at which the means keep both promises; 0 where none does."""
        full = self.full(gear, lengths.prompt, lengths.output)
        if full is None:
            return 0.0
        low, high = 0.0, gear.used * full.requests_per_s
        for _ in range(20):
            middle = 0.5 * (low + high)
            found = self.point(gear, lengths.prompt, lengths.output, middle)
            low, high = (middle, high) if found and found.keeps(lengths.ttft_s) else (low, middle)
        return low


@cache
def clocks(step: float = 0.05, least: float = 0.4) -> tuple[float, ...]:
    """Shares of the full clock from `least` up to 1."""
    count = round((1.0 - least) / step)
    return tuple(round(least + k * step, 4) for k in range(count + 1))


def gears(server: Server, *, tps: bool = False, used: bool = False, clock: str = "") -> Iterator[Gear]:
    """The gears that the knobs allowed to move reach; the others stand as in the baseline.

    `clock` is "both" (one clock for both phases), "decode" (prefill at the full one) or "" (the full one).
    """
    base = server.baseline
    for tp in server.tps if tps else [base.tp]:
        most = server.instances(tp)
        for count in range(1, most + 1) if used else [most]:
            for share in clocks() if clock else [1.0]:
                yield Gear(tp, 1.0 if clock == "decode" else share, share, count)


def _dated(profile: Profile) -> Profile:
    """With a fixed date, so that the same inputs give the same document."""
    return profile.model_copy(update={"provenance": profile.provenance.model_copy(update={"date": DATE})})
