"""Wrong command lines and wrong files: an exit code that means something and one line that says how to mend it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from carbonfleet import cli

GOOD = "simulate --trace t.csv --model llama-3.1-8b --pool h100-sxm-80gb:1@CA-QC -q"
YAML = """\
trace: t.csv
sites: [{name: a, grid: CA-QC}]
pools: [{name: p, site: a, gpu: h100-sxm-80gb, model: llama-3.1-8b, instances: 1}]
"""
FILES = {
    "t.csv": "arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,100,10\n",
    "empty": "",
    "header.csv": "arrival_s,prompt_tokens,output_tokens\n",
    "words.txt": "once upon a time\n",
    "neg.csv": "arrival_s,prompt_tokens,output_tokens\n0,-5,10\n",
    "zero.csv": "arrival_s,prompt_tokens,output_tokens\n0,5,0\n",
    "back.csv": "arrival_s,prompt_tokens,output_tokens\n5,5,5\n1,5,5\n",
    "huge.csv": "arrival_s,prompt_tokens,output_tokens\n0,5,99999999\n",
    "nan.csv": "arrival_s,prompt_tokens,output_tokens\nnan,5,5\n",
    "short.csv": "arrival_s,prompt_tokens,output_tokens\n0,5\n",
    "good.yaml": YAML,
    "list.yaml": "- 1\n- 2\n",
    "broken.yaml": "sites: [\n",
    "tabs.yaml": "sites:\n\t- a\n",
    "key.yaml": YAML.replace("trace:", "tracee:"),
    "twice.yaml": YAML + "trace: u.csv\n",
    "neither.yaml": YAML.replace("trace: t.csv\n", ""),
    "site.yaml": YAML.replace("site: a", "site: b"),
    "twins.yaml": YAML.replace("{name: a, grid: CA-QC}", "{name: a, grid: CA-QC}, {name: a, grid: PL}"),
    "python.yaml": "trace: !!python/object/apply:os.system [true]\n",
    "models.yaml": YAML.replace("pools: [", "pools: [{name: q, site: a, gpu: l4, model: llama-2-7b, instances: 1}, "),
    "kinds.yaml": YAML.replace("{name: a, grid: CA-QC}", "{name: a, grid: CA-QC}, {name: b, grid: 5, kind: marginal}"),
    "profile.json": "{}",
    "list.json": "[]",
    "half.json": '{"a": ',
    "study.yaml": "demand: 5\n",
    "grid.csv": "datetime_utc,carbon_intensity_lca_gco2eq_per_kwh\n2023-01-01T00:00:00,5\n2023-01-01T01:00:00,-1\n",
    "short_grid.csv": "datetime_utc,intensity_lca_gco2eq_per_kwh\n2023-01-01T00:00:00,5\n2023-01-01T01:00:00,6\n",
    "sweep.yaml": "scenario: good.yaml\ngrid: {seed: [1, 2]}\n",
    "sweep_key.yaml": "scenario: good.yaml\ngrid: {pools.p.instanses: [1]}\n",
    "sweep_aim.yaml": "scenario: good.yaml\ngrid: {seed: [1, 2]}\nobjectives: {carbon: min}\n",
    "log.jsonl": '{"input_toks": 100}\n',
}

POOL = "simulate --trace t.csv --model llama-3.1-8b --pool"
CASES: list[tuple[str, int, str]] = [
    # names
    ("simulat", 2, "did you mean simulate"),
    ("simulate --trase t.csv", 2, "--trase"),
    ("simulate", 2, "trace"),
    ("simulate nowhere.yaml", 1, "nowhere.yaml"),
    ("simulate --trace t.csv --model llama-3.1-8b", 2, "--pool"),
    ("simulate --trace t.csv --pool h100-sxm-80gb:1@CA-QC", 2, "--model"),
    (f"{POOL} h100-sxm-80gb:1@CA-QCC", 1, "CA-QC"),
    (f"{POOL} h100-sxm-80g:1@CA-QC", 1, "did you mean h100-sxm-80gb"),
    (f"{POOL} h100:1@CA-QC", 1, "could be"),
    ("simulate --trace t.csv --model lama-3.1-8b --pool h100-sxm-80gb:1@CA-QC", 1, "did you mean llama-3.1-8b"),
    # pools
    (f"{POOL} h100-sxm-80gb", 2, "no @ZONE"),
    (f"{POOL} h100-sxm-80gb@CA-QC", 2, "number of instances"),
    (f"{POOL} h100-sxm-80gb:0@CA-QC", 2, "at least 1"),
    (f"{POOL} h100-sxm-80gb:-3@CA-QC", 2, "instances"),
    (f"{POOL} h100-sxm-80gb:1.5@CA-QC", 2, "instances"),
    (f"{POOL} h100-sxm-80gb:99999999999@CA-QC", 2, "instances"),
    (f"{POOL} h100-sxm-80gb:1:tp0@CA-QC", 2, "tp0"),
    (f"{POOL} h100-sxm-80gb:1:xx2@CA-QC", 2, "xx2"),
    (f"{POOL} h100-sxm-80gb:1:tp3@CA-QC", 1, "no profile"),
    (f"{POOL} h100-sxm-80gb:1:tp64@CA-QC", 1, "tp64"),
    (f"{POOL} h100-sxm-80gb:1:ep@CA-QC", 2, "ep"),
    (f"{POOL} ':1@CA-QC'", 2, "--pool"),
    ("simulate --trace t.csv --model llama-3.1-70b --pool h100-sxm-80gb:1@CA-QC", 1, "needs 141 GB"),
    ("simulate --trace t.csv --model llama-2-7b --pool t4:1@CA-QC", 1, "no profile"),
    # numbers
    (f"{GOOD} --max-num-seqs 0", 2, "max-num-seqs"),
    (f"{GOOD} --max-num-seqs many", 2, "many"),
    (f"{GOOD} --max-num-seqs 9000", 1, "max_num_batched_tokens"),
    (f"{GOOD} --ttft-slo -1", 2, "ttft-slo"),
    (f"{GOOD} --ttft-slo nan", 2, "ttft"),
    (f"{GOOD} --tpot-slo inf", 2, "tpot"),
    (f"{GOOD} --horizon 0", 2, "horizon"),
    (f"{GOOD} --pue 0.5", 2, "pue"),
    (f"{GOOD} --pue nan", 2, "pue"),
    (f"{GOOD} --seed -1", 2, "seed"),
    (f"{GOOD} --lifetime-years 0", 2, "lifetime"),
    (f"{GOOD} --start yesterday", 1, "not a date"),
    (f"{GOOD} --batching greedy", 2, "chunked"),
    (f"{GOOD} --routing random", 2, "round-robin"),
    (f"{GOOD} --engine warp", 2, "leap"),
    (f"{GOOD} --preset none", 2, "pcf-card"),
    (f"{GOOD} --align mirror", 2, "recur"),
    (f"{GOOD} --preset act --boundary card", 1, "boundary"),
    # --set
    (f"{GOOD} --set seed", 2, "seed"),
    (f"{GOOD} --set sead=1", 2, "did you mean seed"),
    (f"{GOOD} --set pools.7.instances=1", 2, "pools.7"),
    (f"{GOOD} --set pools.0.instances=two", 2, "instances"),
    (f"{GOOD} --set =1", 2, "--set"),
    # traces
    ("simulate --trace missing.csv --model llama-3.1-8b --pool h100-sxm-80gb:1@CA-QC", 1, "missing.csv"),
    ("simulate --trace . --model llama-3.1-8b --pool h100-sxm-80gb:1@CA-QC", 1, "."),
    *(
        (f"simulate --trace {name} --model llama-3.1-8b --pool h100-sxm-80gb:1@CA-QC -q", 1, part)
        for name, part in (
            ("empty", "empty: the file is empty"),
            ("header.csv", "header.csv: a header and no request"),
            ("words.txt", "words.txt:1: unknown trace format"),
            ("binary", "binary"),
            ("neg.csv", "neg.csv:2: prompt_tokens"),
            ("zero.csv", "zero.csv:2: output_tokens"),
            ("back.csv", "back.csv:3: arrival_s: earlier"),
            ("huge.csv", "huge.csv:2: output_tokens"),
            ("nan.csv", "nan.csv:2: arrival_s"),
            ("short.csv", "short.csv:2: 2 columns"),
        )
    ),
    (f"{GOOD} --workload t.csv", 1, "t.csv:1"),
    (f"{GOOD} --workload missing.jsonl", 1, "missing.jsonl"),
    (f"{GOOD} --against log.jsonl", 1, "log.jsonl:1: not a request"),
    (f"{GOOD} --against empty", 1, "empty: no request"),
    # scenarios
    *(
        (f"simulate {name}", 1, part)
        for name, part in (
            ("list.yaml", "list.yaml"),
            ("broken.yaml", "broken.yaml:2"),
            ("tabs.yaml", "tabs.yaml:2"),
            ("key.yaml", "key.yaml:1: tracee: unknown key; did you mean trace"),
            ("twice.yaml", "twice.yaml:4"),
            ("neither.yaml", "either a trace, a generator, or streams"),
            ("site.yaml", "unknown site b"),
            ("twins.yaml", "site a is defined twice"),
            ("python.yaml", "python.yaml:1"),
            ("models.yaml", "different models"),
            ("kinds.yaml", "cannot be added"),
            ("empty", "empty"),
            ("binary", "binary"),
            ("t.csv", "t.csv"),
        )
    ),
    # grids
    (f"{POOL} h100-sxm-80gb:1@grid.csv", 1, "grid.csv:3"),
    (f"{POOL} h100-sxm-80gb:1@short_grid.csv --start 2023-06-01", 1, "outside the series short_grid.csv"),
    (f"{POOL} h100-sxm-80gb:1@-5", 1, "not a carbon intensity"),
    (f"{POOL} h100-sxm-80gb:1@nan", 1, "nan"),
    ("grid show CA-QCX", 1, "CA-QC"),
    ("grid show FR --scope direct", 1, "no direct series"),
    ("grid show FR --kind marginal", 1, "is average, asked was marginal"),
    ("grid show words.txt", 1, "words.txt:1"),
    ("grid show half.json", 1, "half.json"),
    ("grid import half.json -o z.csv", 1, "half.json"),
    ("grid import grid.csv", 2, "--output"),
    ("grid sow", 2, "sow"),
    # profiles
    ("profiles show nothing", 1, "unknown profile"),
    ("profiles check profile.json", 1, "profile.json"),
    ("profiles check list.json", 1, "list.json"),
    ("profiles check half.json", 1, "half.json:1"),
    ("profiles check .", 1, "."),
    (f"{GOOD} --profiles nowhere", 1, "nowhere"),
    (f"{GOOD} --profiles profile.json", 1, "profile.json"),
    ("profiles import llmservingsim . -o out", 1, "meta.yaml"),
    ("profiles import splitwise t.csv -o out", 1, "t.csv:1"),
    ("profiles import vidur . -o out", 1, "give --gpu"),
    # embodied
    ("embodied", 2, "GPU"),
    ("embodied h10", 1, "did you mean"),
    ("embodied h100-sxm-80gb --preset mine", 2, "act"),
    ("embodied h100-sxm-80gb --preset hotcarbon24", 1, "states no figure"),
    # reproductions
    ("reproduce hotcarbon2", 2, "hotcarbon2"),
    ("reproduce hotcarbon24 --gpus t5 -q", 1, "unknown GPU"),
    ("reproduce hotcarbon24 --gpus ,t4 -q", 2, "empty name"),
    ("reproduce llmco2 --released nowhere -q", 2, "nowhere"),
    ("reproduce llmco2 --released . -q", 1, "train.csv"),
    ("reproduce llmco2 --rows . -q", 1, "silicon_sample.csv"),
    ("reproduce llmco2 --zones nowhere -q", 1, "unknown grid zone"),
    ("reproduce greener-llms --gpu t5 -q", 1, "unknown GPU"),
    ("reproduce greener-llms --gpu t4 -q", 1, "fits"),
    ("reproduce greener-llms --zone nowhere -q", 1, "nowhere"),
    ("reproduce greener-llms --precision fp3 -q", 1, "fp3"),
    ("reproduce greener-llms --utc-offset-h 99 -q", 2, "99"),
    ("reproduce hotcarbon24 --gpus t4,t4 -q", 1, "given twice"),
    ("reproduce hotcarbon24 --gpus tpu-v5p -q", 1, "unknown"),
    ("reproduce hotcarbon24 --models deepseek-v3 -q", 1, "dense"),
    ("reproduce hotcarbon24 --zones nowhere -q", 1, "unknown grid zone"),
    ("reproduce hotcarbon24 --zones 99999 -q", 1, "not a carbon intensity"),
    ("reproduce hotcarbon24 --lifetime-years 0 -q", 2, "lifetime"),
    # runs
    ("report nowhere", 1, "simulate -o"),
    ("report .", 1, "has no summary.json"),
    ("report . --format gif", 2, "svg"),
    ("compare", 1, "two or more"),
    ("compare .", 1, "two or more"),
    ("compare . .", 1, "has no summary.json"),
    ("verify", 2, "DIR"),
    ("verify nowhere", 1, "simulate -o"),
    # sweep
    ("sweep", 2, "FILE"),
    ("sweep nowhere.yaml", 1, "nowhere.yaml"),
    ("sweep good.yaml", 1, "unknown key"),
    ("sweep list.yaml", 1, "list.yaml:1"),
    ("sweep binary", 1, "UTF-8"),
    ("sweep sweep_key.yaml", 1, "sweep_key.yaml:2: pools.p.instanses: unknown key; did you mean instances"),
    ("sweep sweep_aim.yaml -q -o aims", 1, "unknown objective 'carbon'"),
    ("sweep sweep.yaml --set seed", 2, "key=value"),
    ("sweep sweep.yaml --set pools.p.instanses=2", 1, "did you mean instances"),
    ("sweep sweep.yaml --print-config 9", 1, "there is no point 9"),
    ("sweep sweep.yaml --jobs 0", 2, "--jobs"),
    ("sweep sweep.yaml -o .", 1, "something else than a sweep"),
    ("sweep sweep.yaml -o t.csv", 1, "t.csv: is a file"),
    ("compare nowhere:0 nowhere:1", 1, "has no sweep.json"),
    # optimize
    ("optimize", 2, "STUDY"),
    ("optimize missing.yaml", 1, "missing.yaml"),
    ("optimize study.yaml", 1, "study.yaml"),
    ("optimize broken.yaml", 1, "broken.yaml"),
    # calibrate
    ("calibrate run", 2, "MODEL"),
    ("calibrate llama-3.1-8c --runner fake", 1, "did you mean llama-3.1-8b"),
    ("calibrate llama-3.1-8b --runner magic", 2, "fake"),
    # places that cannot be written
    (f"{GOOD} -o t.csv", 1, "t.csv"),
    (f"{GOOD} -o t.csv/inside", 1, "cannot be"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    return folder


@pytest.mark.parametrize(("line", "code", "part"), CASES, ids=[line for line, *_ in CASES])
def test_a_wrong_line_is_answered_with_one(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, code: int, part: str
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as leaving:
        cli.main(shlex.split(line))
    said = capsys.readouterr()
    assert leaving.value.code == code, said.err
    errors = [text for text in said.err.splitlines() if text.startswith(("error:", "internal error"))]
    assert len(errors) == 1, said.err
    assert errors[0] == said.err.splitlines()[-1]
    assert not errors[0].startswith("internal"), errors[0]
    assert "Traceback" not in said.err
    assert part in errors[0]
    assert str(place) not in errors[0]  # as typed, not where it happens to lie
    assert said.out == ""


def test_the_good_line_is_good(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as leaving:
        cli.main([*shlex.split(GOOD), "--json"])
    assert leaving.value.code == 0
    assert json.loads(capsys.readouterr().out)["requests"]["completed"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_what_may_not_be_read(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (place / "t.csv").chmod(0)
    with pytest.raises(SystemExit) as leaving:
        cli.main(shlex.split(GOOD))
    (place / "t.csv").chmod(0o644)
    assert leaving.value.code == 1
    assert "t.csv" in capsys.readouterr().err
