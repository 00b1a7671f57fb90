"""`predict`: seconds, joules and grams of a request before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from carbonfleet.cli import options as opt

PREDICTORS = ("roofline", "equations", "graph")  # those of profiles.predict.predictor; a test compares them
PRECISIONS = ("bf16", "fp16", "fp8", "int8", "fp4", "int4")


@click.command(
    "predict",
    epilog="Example: carbonfleet predict --model llama-3.1-70b --gpu h100-sxm-80gb --tp 4 --batch 32 --zone quebec",
    context_settings=opt.HELP,
)
@click.option("--model", required=True, help="An LLM of the catalogue.")
@click.option("--gpu", required=True, help="A GPU of the catalogue.")
@click.option("--tp", type=click.IntRange(1, 1024), default=1, show_default=True, help="GPUs that serve it together.")
@click.option("--batch", type=click.FloatRange(min=1), default=1, show_default=True, help="Requests in flight.")
@click.option("--prompt", type=click.IntRange(min=1), default=1024, show_default=True, help="Prompt tokens.")
@click.option("--output-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Output tokens.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="bf16", show_default=True, help="Of the weights.")
@click.option("--engine", default="vllm", show_default=True, help="vllm, sglang, trtllm; another is tier T3.")
@click.option("--zone", default="262", show_default=True, help="A grid zone, a file, or a number of g/kWh.")
@click.option("--scope", type=click.Choice(opt.SCOPES), help="Of the zone's series; default lifecycle.")
@click.option("--pue", type=click.FloatRange(1, 5), default=1.2, show_default=True, help="Power usage effectiveness.")
@click.option("--lifetime-years", type=opt.POSITIVE, default=5.0, show_default=True, help="Life of the hardware.")
@click.option(
    "--preset", type=click.Choice(opt.PRESETS), default="pcf-card", show_default=True, help="Embodied figures."
)
@click.option(
    "--predictor", type=click.Choice(PREDICTORS), default="roofline", show_default=True, help="Which predictor."
)
@opt.out_option("Write the configuration's profile into this folder too, for simulate and optimize (--profiles).")
@opt.own_catalog_option
@opt.json_option
def command(own_catalog: str | None, output: Path | None, as_json: bool, **asked: Any) -> None:
    """Predict TTFT, TPOT, energy and carbon of a request from the model, the GPU and the load, with tier and band."""
    from profiles.catalog import using

    with using(own_catalog):
        document = _document(asked)
        if output is not None:
            document["profile"] = _profile(asked, output)
    if as_json:
        opt.print_json(document)
    else:
        click.echo("\n".join(_text(document)))


def _profile(asked: dict[str, Any], folder: Path) -> str:
    from profiles.predict import request, serving
    from profiles.predict.step_profile import step_profile
    from profiles.profile import save

    what = request.cell(asked["gpu"], asked["model"], asked["tp"], asked["precision"], asked["engine"])
    made = step_profile(serving.load(), what)
    return str(save(made, folder / f"{made.key}.json"))


def _document(asked: dict[str, Any]) -> dict[str, Any]:
    from profiles.grid import load as zone
    from profiles.predict import predictor, request

    signal = zone(asked["zone"], asked["scope"])
    place = request.Place(signal.mean(), asked["pue"], asked["lifetime_years"], asked["preset"])
    what = request.cell(asked["gpu"], asked["model"], asked["tp"], asked["precision"], asked["engine"])
    found = request.one(
        predictor.load(asked["predictor"]), what, asked["batch"], asked["prompt"], asked["output_tokens"], place
    )
    warnings = []
    if found["batch"] < asked["batch"]:
        warnings.append(f"memory holds {found['batch']:.0f} of the {asked['batch']:.0f} requests; the others wait")
    if found["tier"] == "T3":
        warnings.append("tier T3: no row of this vendor or engine was fitted; take the band as it stands, or calibrate")
    found["assumptions"] = {
        "intensity_g_per_kwh": place.intensity_g_per_kwh,
        "grid": f"{signal.name}: {signal.kind}, {signal.scope}; {signal.source}",
        "pue": place.pue,
        "lifetime_years": place.lifetime_years,
        "embodied": f"{place.preset}, with the GPU's share of its host",
        "load": "steady state of continuous batching at the stated requests in flight",
    }
    found["warnings"] = warnings
    return found


def _text(d: dict[str, Any]) -> list[str]:
    from carbonfleet.text import figure, table

    names = {
        "ttft_s": "TTFT s", "tpot_s": "TPOT s", "e2e_s": "E2E s", "power_w": "GPU power W", "gpu_s": "GPU seconds",
        "prefill_j": "prefill J", "decode_j": "decode J", "host_j": "host J", "energy_j": "energy J",
        "operational_g": "operational gCO2e", "embodied_g": "embodied gCO2e",
    }  # fmt: skip
    given, rows = d["assumptions"], []
    for key, title in names.items():
        per = d["per_1k_output_tokens"].get(key)
        one = d["request"][key]
        if one is not None:
            thousand = figure(per["mid"]) if per else ""
            rows.append([title, *(figure(one[k]) for k in ("mid", "low", "high")), thousand])
    return [
        f"{d['model']} on {d['tp']} x {d['gpu']}, {d['precision']}, {d['engine']}: batch {d['batch']:.0f}, "
        f"{d['prompt_tokens']} tokens in, {d['output_tokens']} out; tier {d['tier']}",
        "",
        *table(["of a request", "mid", "90 % low", "high", "per 1k tokens"], rows),
        "",
        f"predictor {d['predictor']}: {d['source']}",
        f"grid: {given['intensity_g_per_kwh']:.0f} g/kWh ({given['grid']})",
        f"PUE {given['pue']:g}, {given['lifetime_years']:g} years; {given['embodied']}",
        *(f"warning: {text}" for text in d["warnings"]),
        *([f"profile: {d['profile']}"] if "profile" in d else []),
    ]
