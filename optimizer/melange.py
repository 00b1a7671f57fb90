"""Mélange's question through carbonfleet's program: which rented GPUs serve a bucketed demand at least $/h.

Input is the JSON of Mélange (Griggs et al., 2024): `gpu_info` {name: {cost, tputs[i][j] in request/s}},
`workload_distribution[i][j]` (shares), `total_request_rate`, `slice_factor`. A bucket of rate r on a GPU type
occupies r / tput of a GPU; a zero throughput says that the type cannot serve the bucket.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from optimizer.program import Column, Option, Program
from optimizer.solver import Solution, solve_program
from profiles.fields import NonNegative
from profiles.inputs import InputError, validate

_GAP = 1e-6


class _Gpu(BaseModel):
    model_config = ConfigDict(extra="ignore")

    cost: NonNegative
    tputs: list[list[NonNegative]]


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore")

    gpu_info: dict[str, _Gpu] = Field(min_length=1)
    workload_distribution: list[list[NonNegative]] = Field(min_length=1)
    total_request_rate: NonNegative
    slice_factor: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _same_shape(self) -> _Input:
        shape = [len(row) for row in self.workload_distribution]
        for name, gpu in self.gpu_info.items():
            if [len(row) for row in gpu.tputs] != shape:
                raise ValueError(f"tputs of {name} and workload_distribution differ in shape")
        if self.total_request_rate and not any(any(row) for row in self.workload_distribution):
            raise ValueError("workload_distribution is zero everywhere; give each bucket its share")
        return self


def solve_melange(document: Any, *, divisible: bool = False, time_limit_s: float = 20.0) -> dict[str, Any]:
    """Solve one Mélange input.

    Args:
        document: the JSON as read; a file that wraps it under `input` is understood as well.
        divisible: let each bucket's traffic be split freely instead of in `slice_factor` equal slices.
        time_limit_s: seconds the solver may take; at the limit the best plan is returned with its gap.

    Returns:
        {cost ($/h), bound, gap, status, fleet {gpu: count}, assignment [{bucket: [i, j], gpu, share}]}.

    Raises:
        InputError: the document is broken, or a bucket with traffic is served by no GPU type.
    """
    if isinstance(document, dict) and isinstance(document.get("input"), dict):
        document = document["input"]
    given = validate(_Input, document)
    names = list(given.gpu_info)
    buckets = _buckets(given)
    program = Program(
        [Option(gpu.cost) for gpu in given.gpu_info.values()],
        _columns(given, buckets),
        [0] * len(buckets),
        [],
        None if divisible else given.slice_factor,
    )
    for demand in program.unserved():
        i, j, _ = buckets[demand]
        raise InputError(
            "no GPU type has a throughput above zero here",
            field=f"workload_distribution[{i}][{j}]",
            mend="add a GPU type that serves this bucket, or set its share to zero",
        )
    solution = solve_program(program, time_limit_s=time_limit_s, gap_rel=_GAP)
    return _answer(program, solution, names, buckets)


def _buckets(given: _Input) -> list[tuple[int, int, float]]:
    """(row, column, requests per second) of every bucket with traffic."""
    return [
        (i, j, share * given.total_request_rate)
        for i, row in enumerate(given.workload_distribution)
        for j, share in enumerate(row)
        if share * given.total_request_rate > 0
    ]


def _columns(given: _Input, buckets: list[tuple[int, int, float]]) -> list[Column]:
    return [
        Column(demand, option, rate / gpu.tputs[i][j], 0.0)
        for demand, (i, j, rate) in enumerate(buckets)
        for option, gpu in enumerate(given.gpu_info.values())
        if gpu.tputs[i][j] > 0
    ]


def _answer(
    program: Program, solution: Solution, names: list[str], buckets: list[tuple[int, int, float]]
) -> dict[str, Any]:
    taken = zip(program.columns, solution.shares, strict=True) if solution.shares else ()
    return {
        "cost": solution.objective,
        "bound": solution.bound,
        "gap": solution.gap,
        "status": solution.status,
        "fleet": {name: n for name, n in zip(names, solution.units, strict=False) if n},
        "assignment": [
            {"bucket": list(buckets[column.demand][:2]), "gpu": names[column.option], "share": share}
            for column, share in taken
            if share > 1e-9
        ],
    }
