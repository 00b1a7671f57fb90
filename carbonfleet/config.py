"""A Scenario from what was typed: a YAML file or the quick form, options over it, `--set` over both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from profiles.inputs import InputError, near_miss, read_yaml, validate
from sim.scenario import Scenario, anchored, parse_start

POOL_FORM = "GPU:INSTANCES[:tpN][:dpN[:ep]]@ZONE or @FILE, like a100-sxm-80gb:8:tp2@US-CAL-CISO"
_PART = re.compile(r"(tp|dp)([1-9][0-9]*)$")
# option -> where it goes: a key of the scenario, or of every site or pool
_KEYS = {"ttft_slo": "slo.ttft_s", "tpot_slo": "slo.tpot_s", "lifetime_years": "accounting.lifetime_years"}
_KEYS |= {"preset": "accounting.preset", "boundary": "accounting.boundary", "horizon": "horizon_s"}
_KEYS |= {
    key: key
    for key in (
        "trace",
        "workload",
        "rate_scale",
        "repeat",
        "shape",
        "allow_bad_rows",
        "start",
        "align",
        "seed",
        "routing",
        "profiles",
        "own_catalog",
    )
}
_KEYS |= {"sort": "sort_trace"}
_EACH = {"pue": "sites", "model": "pools", "batching": "pools"}
_EACH |= {"max_num_seqs": "pools", "max_num_batched_tokens": "pools", "prefix_cache": "pools"}


class UsageError(InputError):
    """What was typed, rather than what a file holds, is wrong."""

    exit_code = 2


class PoolText(NamedTuple):
    """One `--pool` taken apart."""

    gpu: str
    instances: int
    tp: int
    dp: int
    expert_parallel: bool
    grid: str


def parse_pool(text: str) -> PoolText:
    """Take a `--pool` apart.

    Raises:
        UsageError: it is not of the form POOL_FORM.
    """

    def refuse(what: str) -> UsageError:
        return UsageError(what, field=f"--pool {text}", mend=f"write {POOL_FORM}")

    head, at, grid = text.partition("@")
    gpu, *parts = head.split(":")
    if not at or not grid.strip():
        raise refuse("no @ZONE, so the grid is unknown")
    if not gpu or not parts:
        raise refuse("no number of instances")
    if not re.fullmatch(r"[0-9]{1,7}", parts[0]) or int(parts[0]) == 0:
        raise refuse(f"{parts[0]!r} is not a number of instances of at least 1")
    degrees, expert = {"tp": 1, "dp": 1}, False
    for part in parts[1:]:
        found = _PART.match(part)
        if part != "ep" and not found:
            raise refuse(f"{part!r} is none of tpN, dpN, ep")
        if found:
            degrees[found[1]] = int(found[2])
        expert = expert or part == "ep"
    return PoolText(gpu, int(parts[0]), degrees["tp"], degrees["dp"], expert, grid)


def quick(trace: str | None, model: str | None, pools: Sequence[str]) -> dict[str, Any]:
    """The scenario document of the quick form.

    Raises:
        UsageError: a part is missing or wrong, or expert parallelism is asked for where there is nothing to spread.
    """
    if not trace or not model or not pools:
        missing = [
            f for f, given in (("--trace FILE", trace), ("--model NAME", model), ("--pool ...", pools)) if not given
        ]
        raise UsageError(f"nothing to simulate without {', '.join(missing)}", mend="give them, or a SCENARIO.yaml")
    sites: dict[str, str] = {}  # grid as typed -> site name
    entries: list[dict[str, Any]] = []
    for text in pools:
        pool = parse_pool(text)
        _check_expert_parallel(pool, model, text)
        site = sites.setdefault(pool.grid, "") or _free(_site_name(pool.grid), sites.values())
        sites[pool.grid] = site
        width = "".join(f"-{kind}{n}" for kind, n in (("tp", pool.tp), ("dp", pool.dp)) if n > 1)
        name = _free(f"{pool.gpu}{width}@{site}", [entry["name"] for entry in entries])
        entry = {"name": name, "site": site, "gpu": pool.gpu, "model": model, "instances": pool.instances}
        entry |= {"ep": True} if pool.expert_parallel else {}
        entries.append(entry | {"tp": pool.tp, "dp": pool.dp})
    listed = [{"name": name, "grid": grid} for grid, name in sites.items()]
    return {"trace": trace, "sites": listed, "pools": entries}


def _check_expert_parallel(pool: PoolText, model: str, text: str) -> None:
    if not pool.expert_parallel:
        return
    from profiles.catalog import llm

    if not llm(model).experts:
        what = f"{model} is dense: it has no experts to spread, so ep says nothing"
        raise UsageError(what, field=f"--pool {text}", mend="drop :ep")
    if pool.dp < 2:
        what = "ep spreads the experts over dp replicas, of which there is one"
        raise UsageError(what, field=f"--pool {text}", mend="add dpN, like dp2:ep")


def _site_name(grid: str) -> str:
    """A zone stands for itself, a file for its stem."""
    return Path(grid).stem if "/" in grid or Path(grid).is_file() else grid


def _free(name: str, taken: Any) -> str:
    """`name`, or name-2, name-3 ... where it is taken."""
    used, free, n = set(taken), name, 1
    while free in used:
        n += 1
        free = f"{name}-{n}"
    return free


def build(path: str | None, options: Mapping[str, Any], pools: Sequence[str], settings: Sequence[str]) -> Scenario:
    """The checked scenario. `options` are named as on the command line; one that is None was not given.

    Raises:
        InputError: the file is refused.
        UsageError: an option or a `--set` is refused, or `--pool` stands beside a file.
    """
    lines: dict[tuple[Any, ...], int] = {}
    if path is None:
        data = quick(options.get("trace"), options.get("model"), pools)
    elif pools:
        mend = "change its pools with --set pools.0.instances=4, or leave the file out"
        raise UsageError(f"{path} already says which pools there are", field="--pool", mend=mend)
    else:
        data, lines = read_yaml(path)
    typed = _apply(data, options, anchor=path is not None)
    for text in settings:
        key, value = setting(text)
        put(data, key, value, field=f"--set {text}")
        typed[key] = f"--set {text}"
    try:
        scenario = validate(Scenario, data, file=path, lines=lines)
    except InputError as error:
        raise _blame(error, typed) from error
    return anchored(scenario, Path(path).parent) if path is not None else scenario


def _apply(data: dict[str, Any], options: Mapping[str, Any], anchor: bool) -> dict[str, str]:
    """Lay options over a document; where each went -> how it was typed."""
    typed = {}
    for option, value in options.items():
        if value is None or value == ():
            continue
        flag = f"--{option.replace('_', '-')}"
        if option == "start":
            value = parse_start(value)
        elif option in ("trace", "profiles", "own_catalog") and anchor:  # typed paths are the shell's, not the file's
            value = _here(value) if isinstance(value, str) else [_here(item) for item in value]
        elif option == "profiles":
            value = list(value)
        if option == "trace":
            data.pop("generator", None)
        if option in _KEYS:
            put(data, _KEYS[option], value, field=flag)
            typed[_KEYS[option]] = flag
        for i, item in enumerate(_items(data, _EACH.get(option))):
            item[option] = value
            typed[f"{_EACH[option]}.{i}.{option}"] = flag
    return typed


def _items(data: dict[str, Any], group: str | None) -> list[dict[str, Any]]:
    """The sites or pools that are there to be changed; what is malformed is left for validate to refuse."""
    items = data.get(group) if group else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _here(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path


def setting(text: str) -> tuple[str, Any]:
    """A `--set` as its dotted key and its value read as YAML.

    Raises:
        UsageError: it is not of the form key=value, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key or not all(key.split(".")):
        mend = "write key=value, like --set accounting.lifetime_years=4 or --set pools.0.instances=8"
        raise UsageError("not of the form key=value", field=f"--set {text}", mend=mend)
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError("the value is not YAML", field=f"--set {text}", mend="quote it") from error


def put(data: dict[str, Any], key: str, value: Any, *, field: str) -> tuple[Any, ...]:
    """Set a dotted path; a list's items go by index or by their `name`; mappings are made as needed.

    Returns:
        the path as it was taken, names of a list's items replaced by their indexes.

    Raises:
        UsageError: a list has no such item, or the path leads through a value that holds nothing.
    """
    *parents, last = key.split(".")
    here: Any = data
    path: list[Any] = []
    for part in parents:
        if not isinstance(here, list | dict):
            break
        path.append(_index(here, part, field) if isinstance(here, list) else part)
        if isinstance(here, dict) and here.get(part) is None:
            here[part] = {}
        here = here[path[-1]]
    if not isinstance(here, list | dict):
        raise UsageError(f"nothing stands below {'.'.join(parents)}", field=field, mend="give an existing path")
    path.append(_index(here, last, field) if isinstance(here, list) else last)
    here[path[-1]] = value
    return tuple(path)


def _index(items: list[Any], part: str, field: str) -> int:
    """Where an item of a list is, by its number or its name."""
    names = [str(item.get("name")) if isinstance(item, dict) else "" for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    known = [name for name in names if name]
    raise UsageError(
        f"no item {part!r} among {len(items)}", field=field, mend=near_miss(part, known) if known else None
    )


def _blame(error: InputError, typed: dict[str, str]) -> InputError:
    """The refusal of a value that was typed names the option rather than a line of the file."""
    parts = (error.field or "").split(".")
    for n in range(len(parts), 0, -1):
        flag = typed.get(".".join(parts[:n]))
        if flag:
            return UsageError(error.what, field=": ".join([flag, *parts[n:]]), mend=error.mend)
    return error


def as_yaml(asked: BaseModel) -> str:
    """A resolved scenario or study as YAML that reads back to the same."""
    document = asked.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
