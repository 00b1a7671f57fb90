"""The whole loop on this machine's CPU: a real server, calibrated, loaded with a trace, and simulated.

    pip install "transformers[serving]==5.23.0"     # in the environment that runs this
    python -m benchmarks.cpu_loop [--url URL]        # about five minutes on two cores

`transformers serve` serves a tiny random LLaMA with continuous batching; the openai runner calibrates it; the load
generator replays 200 requests three times; `simulate` replays the same requests on the new profile. TPOT and E2E stand
side by side with the spread of the three repeats. The power is an estimate from CPU time and plays no part here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calibrate.client import Prompter, Server
from calibrate.clock import RealClock
from calibrate.load import replay
from calibrate.meter import EstimateMeter, machine_cpu_time_s
from calibrate.server_bench import ServerGrid, measure_server
from calibrate.serving import Pace
from profiles.llm_config import read_config
from profiles.profile import save
from sim import against, scenario
from sim.run import run

REQUESTS, REPEATS, RATE_PER_S = 200, 3, 6.0
BLOCKS, BLOCK_TOKENS, STEP_TOKENS, BATCH = 64, 256, 256, 16
GRID = ServerGrid(
    (1, 2, 4, 8, 16), (160, 320), (32, 64, 128), (1, 4, 8), ((200, 1), (128, 8), (64, 32), (32, 64), (16, 128))
)
MAKE = """
import sys
from tokenizers import Tokenizer, decoders, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
letters = [chr(c) for c in range(32, 127)] + [chr(c) for c in range(0x400, 0x400 + 161)]
vocab = {letter: number for number, letter in enumerate([*letters, "<s>", "</s>", "<pad>"])}
plain = Tokenizer(models.BPE(vocab=vocab, merges=[]))
plain.decoder = decoders.Fuse()
fast = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
shape = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
config = LlamaConfig(vocab_size=259, head_dim=64, max_position_embeddings=8192, bos_token_id=256, eos_token_id=None,
                     pad_token_id=258, **shape)
model = LlamaForCausalLM(config)
model.generation_config = GenerationConfig(eos_token_id=None, pad_token_id=258, do_sample=False)
model.save_pretrained(sys.argv[1])
fast.save_pretrained(sys.argv[1])
"""


def main() -> None:
    """Run it all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve-python", default=sys.executable, help="the Python that has transformers[serving]")
    asked = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        model = folder / "tiny-llama"
        quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
        (folder / "hf" / "hub").mkdir(parents=True)
        environment = {**os.environ, **quiet}
        subprocess.run(
            [asked.serve_python, "-c", MAKE, str(model)], check=True, env=environment, stderr=subprocess.DEVNULL
        )
        with _serving(asked.serve_python, model, environment) as url:
            _loop(url, model, folder)


@contextlib.contextmanager
def _serving(python: str, model: Path, environment: dict[str, str]) -> Iterator[str]:
    port = "8127"
    command = [str(Path(python).parent / "transformers"), "serve", str(model), "--host", "127.0.0.1", "--port", port]
    command += ["--device", "cpu", "--continuous-batching", "--cb-num-blocks", str(BLOCKS)]
    command += ["--cb-block-size", str(BLOCK_TOKENS), "--cb-max-batch-tokens", str(STEP_TOKENS)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/v1/models", timeout=2):
                break
            time.sleep(0.5)
        else:
            raise SystemExit("transformers serve did not come up in a minute")
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def _loop(url: str, model: Path, folder: Path) -> None:
    clock = RealClock()
    profile, _ = measure_server(
        read_config(model),
        Server(url, str(model)),
        EstimateMeter(clock, machine_cpu_time_s),
        engine="transformers-5.23.0",
        kv_capacity_tokens=BLOCKS * BLOCK_TOKENS,
        gpu="this-cpu",
        max_batch=BATCH,
        max_chunk=STEP_TOKENS,
        grid=GRID,
        pace=Pace(repeats=2, window_s=2.0, mix_s=4.0, max_output_tokens=256, injections=6, idle_s=3.0),
        progress=lambda step: print(f"  {step.done}/{step.total} {step.label}", file=sys.stderr),
    )
    save(profile, folder / "profile.json")
    print("\n".join(profile.provenance.notes))
    logs = [asyncio.run(_replay(url, str(model), folder / f"log-{k}.jsonl")) for k in range(REPEATS)]
    measured = {name: [float(np.nanmean(getattr(log, name))) for log in logs] for name in ("ttft_s", "tpot_s", "e2e_s")}
    simulated = [_simulate(folder, k) for k in range(REPEATS)]
    print(f"{REQUESTS} requests at {RATE_PER_S:g}/s, means of {REPEATS} repeats")
    print(f"{'':8}{'measured ms':>14}{'spread':>9}{'simulated ms':>15}{'error':>9}")
    for name, values in measured.items():
        mean, spread = statistics.fmean(values), (max(values) - min(values)) / statistics.fmean(values)
        made = statistics.fmean(found[name] for found in simulated)
        print(
            f"{name[:-2]:8}{1000 * mean:14.2f}{100 * spread:8.1f} %{1000 * made:14.2f}{100 * (made / mean - 1):+8.1f} %"
        )


async def _replay(url: str, model: str, log: Path) -> against.Log:
    dice = np.random.default_rng(11)
    arrivals = np.cumsum(dice.exponential(1 / RATE_PER_S, REQUESTS)).tolist()
    prompts = dice.integers(24, 240, REQUESTS).tolist()
    outputs = dice.integers(8, 120, REQUESTS).tolist()
    server = Server(url, model)
    try:
        await server.open()
        prompter = Prompter(259, seed=5)
        await prompter.fit(server)
        sent = await replay(server, prompter, arrivals, prompts, outputs, log)
    finally:
        await server.close()
    print(f"  replayed: {sent.completed} completed, {sent.failed} failed, {sent.late} late", file=sys.stderr)
    return against.read_log(log)


def _simulate(folder: Path, k: int) -> dict[str, float]:
    own = folder / "own"
    own.mkdir(exist_ok=True)
    (own / "gpus.csv").write_text(
        "name,vendor,memory_gb,bandwidth_gb_s,bf16_tflops,memory_type,release_year,spec_source,bf16_source\n"
        "this-cpu,this,16,40,1,DDR,2024,a placeholder,a placeholder\n"
    )
    (own / "hosts.csv").write_text(
        "name,gpu,gpus,cpus,dram_gb,ssd_tb,nics,chassis_2u,fans,power_w,source\nthis-host,this-cpu,1,1,16,1,1,1,1,1,here\n"
    )
    llm = read_config(folder / "tiny-llama")
    columns = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "params", "max_context")
    (own / "llms.csv").write_text(
        f"name,{','.join(columns)},tied_embeddings,source\n"
        f"{llm.name},{','.join(str(getattr(llm, column)) for column in columns)},no,config.json\n"
    )
    asked = {
        "trace": str(folder / f"log-{k}.jsonl"),
        "start": "2023-06-01T00:00:00Z",
        "sites": [{"name": "here", "grid": "400"}],
        "pools": [
            {"name": "cpu", "site": "here", "gpu": "this-cpu", "model": llm.name, "instances": 1}
            | {"max_num_seqs": 64, "max_num_batched_tokens": STEP_TOKENS, "block_tokens": BLOCK_TOKENS}
        ],
        "profiles": [str(folder / "profile.json")],
        "own_catalog": str(own),
        "accounting": {"embodied_kg": {"this-cpu": 1.0}},
    }
    (folder / "scenario.yaml").write_text(json.dumps(asked))
    summary = run(scenario.read(folder / "scenario.yaml")).summary
    return {name: float(summary[name]["mean"]) for name in ("ttft_s", "tpot_s", "e2e_s")}


if __name__ == "__main__":
    main()
