"""The page docs/studies/greener-llms.md and what makes its result."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import items, table
from carbonfleet.reproduce.greener import reading, words
from carbonfleet.reproduce.greener.figures import figures
from carbonfleet.reproduce.greener.study import Setting, study

HEAD = """# Towards Greener LLMs and DynamoLLM, reproduced

{papers}

    carbonfleet reproduce greener-llms -o runs/greener-llms

writes `report.html` (maps of TTFT, TBT, throughput, power and J/token, energy against the clock, the week),
`result.json` (every figure), `manifest.json` and the predicted profiles. {runtime} This page is written from
docs/studies/greener-llms.json by `python -m benchmarks.studies`; `--anew greener-llms` computes that first. `--gpu`,
`--model`, `--precision`, `--zone`, `--utc-offset-h` and `--lifetime-years` ask the same of other hardware, regions and
lives.

![Saved over a week]({picture})

{model} in {precision} serves nine classes of requests (prompts of 128, 512 and 2,048 tokens, outputs of 64, 256 and
512) on {gpus} x {gpu}, at three loads, under limits on TTFT and TBT. Knobs are tensor parallelism, the batch (instances
in use, hence how full each is) and the SM clock. **Nothing here was measured at another clock**: steps are predicted,
clocks modelled, and the papers' own profiles are not public. A gear is chosen by the steady state of continuous
batching and replayed by the simulator.

{headline}
"""

READING = """
What is model and what is not: a step at a lower clock is as long as the slower of its arithmetic, which goes with the
clock, and the rest, which does not; power above idle goes with f V^2 (profiles/dvfs.py). That decode hardly slows
follows from that roofline and is not a finding; where least energy lies follows from idle joules against dynamic ones
and is. Limits on TTFT are DynamoLLM's as far as recalled, and loads are shares of what the baseline carries, because no
absolute rate of the papers' engine of 2023 compares with today's.
"""


def render(d: dict[str, Any], runtime: str, picture: str) -> str:
    """The whole page of a result with the papers' own setting."""
    s = d["setting"]
    parts = [
        HEAD.format(papers="\n\n".join(d["papers"]), headline=words.headline(d), runtime=runtime, picture=picture, **s),
        "## Beside the papers\n",
        table(words.FINDINGS_HEAD, words.finding_rows(d), 2),
        "## Reading it\n",
        items(reading.lines(d)) + READING,
        "## Which knob saves most\n",
        "Power of the server's GPUs saved against the baseline, as replayed; * is the best single knob. `decode\n"
        "clock` keeps prefill at full clock; `tp and batch` may leave instances out of use, whose GPUs idle;\n"
        "`unharmed` is the most that any gear saves with no mean latency up by more than 5 % (steady state).\n",
        table(words.KNOBS_HEAD, words.knob_rows(d), 2),
        "## A batch\n",
        "Joules of GPUs an output token at full load and full clock.\n",
        table(words.BATCH_HEAD, words.batch_rows(d)),
        "## Energy against the clock\n",
        "Of a long prompt, and of a decode step at a context of 1,024 tokens; shares of those at full clock.\n",
        table(words.PHASE_HEAD, words.phase_rows(d)),
        "## A week, adapted\n",
        "Saved against a static fleet of the baseline; `planned` is what the steady state expected of all energy.\n",
        table(words.POLICY_HEAD, words.policy_rows(d)),
        "As planned, not simulated, if something else were so:\n",
        table(words.WHAT_IF_HEAD, words.what_if_rows(d)),
        "## What would change the conclusion\n",
        "Savings at steady state: medians over classes and loads, and where 20 % is reached.\n",
        table(words.DOUBTS_HEAD, words.doubt_rows(d)),
        "Predicted steps over shipped ones, fitted to measurements, of the same network with another vocabulary:\n",
        table(words.BESIDE_HEAD, words.beside_rows(d), 2),
        "## What physics demands\n",
        table(words.CHECKS_HEAD, words.check_rows(d), 3),
        "## Profiles and assumptions\n",
        table(words.PROFILE_HEAD, words.profile_rows(d), 3),
        table(("what", "value", "given by", "why"), [[*row.values()] for row in d["assumptions"]], 4),
    ]
    return "\n".join(parts)


def compute() -> dict[str, Any]:
    """The result with the paper's own setting."""
    return study(Setting()).document


def picture(d: dict[str, Any]) -> dict[str, Any]:
    """What is saved over the week."""
    return figures(d)["week_savings"]
