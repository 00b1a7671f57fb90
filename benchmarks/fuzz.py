"""Mutated inputs over every reader: no traceback, no hang, nothing absurd accepted.

    .venv/bin/python -m benchmarks.fuzz [COUNT] [SEED]

Good files of every kind are cut, overwritten, doubled and spliced at random. A reader may refuse (InputError, one line)
or accept; what it accepts must be finite, positive and of sane size. Prints what went wrong and the slowest.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optimizer import study
from profiles import grid, profile
from profiles.importers import formats, splitwise
from profiles.importers.formats import Asked
from profiles.inputs import CarbonfleetError
from sim import scenario
from sim.against import read_log
from sim.trace import read_trace
from sim.trace.modelled import prometheus, sharegpt
from sim.trace.workload import with_workload
from tests import importer_rows, test_grid_formats, test_trace_sources
from tests.conftest import paper_profile

ROOT = Path(__file__).resolve().parents[1]
HANG_S = 5.0
JUNK = [b"-", b"nan", b"Infinity", b"1e400", b"null", b"[]", b"{}", b'"', b"\n", b",", b"\xff\xfe", b"0x10", b"true"]
JUNK += [
    b"99999999999999999999",
    b"\x00",
    b":",
    b"- ",
    b"!!python/object:os.system",
    b"&a *a",
    b"<script>",
    b"\t",
    b"'",
]
Reader = Callable[[Path], Any]


def sane_trace(found: Any) -> bool:
    tokens = np.concatenate([found.prompt_tokens, found.output_tokens])
    times = found.arrival_s
    return bool(((tokens >= 1) & (tokens <= 1e7)).all() and np.isfinite(times).all() and (np.diff(times) >= 0).all())


def sane_signal(found: Any) -> bool:
    known = found.g_per_kwh[~np.isnan(found.g_per_kwh)]
    return bool(known.size and ((known >= 0) & (known <= 3000)).all() and (np.diff(found.start_s) > 0).all())


def sane_forecast(found: Any) -> bool:
    return all(np.isfinite(issue.g_per_kwh).all() and (issue.g_per_kwh >= 0).all() for issue in found.issues)


def sane_profile(found: Any) -> bool:
    times = [*found.prefill.time_s, *found.decode.time_s]
    return all(0 < t < float("inf") for t in times) and found.memory.kv_capacity_tokens > 0


def sane_log(found: Any) -> bool:
    return bool((found.ttft_s > 0).all() and np.isfinite(found.e2e_s).all())


def anything(found: Any) -> bool:
    return found is not None


def corpus() -> list[tuple[str, bytes, Reader, Callable[[Any], bool]]]:
    """Name, good content, reader and check of every kind of file."""
    azure = (
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50,396,109\n"
    )
    moon = b'{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n' * 2
    own = b"arrival_s,prompt_tokens,output_tokens\n0,100,10\n1.5,100,10\n"
    maps = (
        "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),"
        "Carbon Intensity gCO₂eq/kWh (LCA),Data Estimated\n2023-01-01 00:00:00,F,F,FR,50,60,false\n"
        "2023-01-01 01:00:00,F,F,FR,51,61,true\n2023-01-01 02:00:00,F,F,FR,52,62,false\n"
    ).encode()
    log = b'{"input_toks": 6, "output_toks": 5, "arrival_time": 1e6, "queued_ts": 0.1, "first_token_ts": 1, '
    log += b'"last_token_ts": 2}\n'
    perf = b"model,hardware,prompt_size,batch_size,prompt_time,token_time,tensor_parallel\n"
    perf += b"llama2-70b,h100-80gb,128,1,40,30,8\nllama2-70b,h100-80gb,256,2,50,31,8\n"
    example, plan = (ROOT / "examples" / name for name in ("two-sites.yaml", "study-two-sites.yaml"))
    found: list[tuple[str, bytes, Reader, Callable[[Any], bool]]] = [
        *((name, text, read_trace, sane_trace) for name, text in (("azure", azure), ("mooncake", moon), ("own", own))),
        *(("trace", text.encode(), read_trace, sane_trace) for text in test_trace_sources.GOOD[:5]),
        ("sharegpt", test_trace_sources.GOOD[5].encode(), lambda p: sharegpt(p, 1.0, 4.0, 0), sane_trace),
        ("prometheus", test_trace_sources.GOOD[6].encode(), lambda p: prometheus(p, 0), sane_trace),
        ("maps", maps, grid.read_series, sane_signal),
        *(("grid", text.encode(), lambda p: grid.read_series(p, "direct", "marginal"), sane_signal)
          for text in test_grid_formats.GOOD),
        *(("forecast", text.encode(), grid.read_forecast, sane_forecast) for text in test_grid_formats.GOOD[-3:]),
        ("profile", json.dumps(paper_profile().model_dump(exclude_none=True)).encode(), profile.load, sane_profile),
        ("splitwise", perf, splitwise.read_perf_model, sane_profile),
        *(("import", text.encode(), _importer(form), sane_profiles) for form, text in imports()),
        ("log", log * 2, read_log, sane_log),
        ("scenario", example.read_bytes(), scenario.read, anything),
        ("study", plan.read_bytes(), study.read, anything),
        ("workload", b'{"input_tok_ids": [1, 2, 3]}\n', _workload, anything),
    ]  # fmt: skip
    return found


def imports() -> list[tuple[str, str]]:
    """Format and good text of the importers that read one file."""
    made = importer_rows
    return [
        ("aiconfigurator", made.table(made.SILICON, made.silicon())),
        ("mlenergy", made.table(made.LEADERBOARD, made.leaderboard())),
        ("mlenergy", made.leaderboard_json(made.leaderboard())),
        ("llm-inference-bench", made.table(made.BENCH, made.bench())),
        ("distserve", json.dumps(made.DISTSERVE)),
        ("vidur", made.vidur()),
    ]


def _importer(form: str) -> Reader:
    asked = Asked(gpu="a40") if form == "vidur" else Asked()
    return lambda path: formats.read(form, path, asked)


def sane_profiles(found: Any) -> bool:
    return all(sane_profile(one) for one in found)


def _workload(path: Path) -> Any:
    from sim.trace import Trace

    return with_workload(Trace("t", np.zeros(1), np.array([3]), np.array([1])), path)


def mutate(good: bytes, rng: random.Random) -> bytes:
    """One to three changes at random places."""
    raw = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(raw) + 1), rng.randrange(0, 14)
        kind = rng.randrange(6)
        if kind == 0:
            del raw[at : at + length]
        elif kind == 1:
            raw[at:at] = rng.choice(JUNK)
        elif kind == 2:
            raw[at : at + length] = rng.choice(JUNK)
        elif kind == 3:
            raw[at:at] = raw[max(0, at - 40) : at]
        elif kind == 4:
            del raw[at:]
        elif raw:
            raw[at % len(raw)] = rng.randrange(256)
    return bytes(raw)


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 100_000
    rng = random.Random(int(arguments[1]) if len(arguments) > 1 else 0)
    cases, bad, seen = corpus(), [], Counter()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dat"
        for number in range(count):
            name, good, read, sane = cases[number % len(cases)]
            raw = mutate(good, rng)
            path.write_bytes(raw)
            began = time.perf_counter()
            try:
                outcome = "accepted" if sane(read(path)) else "ABSURD"
            except CarbonfleetError as error:
                outcome = "refused" if "\n" not in str(error) else "TWO LINES"
            except Exception as error:
                outcome = f"TRACEBACK {type(error).__name__}: {error}"[:160]
            took = time.perf_counter() - began
            slowest = max(slowest, (took, name))
            outcome = "HANG" if took > HANG_S else outcome
            seen[outcome.split()[0]] += 1
            if outcome not in ("accepted", "refused"):
                bad.append((name, outcome, raw))
    for name, outcome, raw in bad[:20]:
        print(f"{name}: {outcome}\n  {raw[:400]!r}")
    print(f"{count:,} mutated inputs over {len(cases)} files: {dict(seen)}; slowest {slowest[0]:.2f} s ({slowest[1]})")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
