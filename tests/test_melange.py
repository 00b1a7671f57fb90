"""Mélange's question through the program core, against its published example and independent optima."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from optimizer.melange import solve_melange
from profiles.inputs import InputError

ORACLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "oracles" / "melange"

# A cheap GPU and one 3.63 times the price: written by hand so that one big and three small are needed when a bucket
# goes to one type whole (6.70 $/h), and one of each when it may be split (4.68 $/h).
TOY: dict[str, Any] = {
    "gpu_info": {
        "small": {"cost": 1.01, "tputs": [[2, 1], [5, 2]]},
        "large": {"cost": 3.67, "tputs": [[20, 20], [40, 20]]},
    },
    "workload_distribution": [[0.2, 0.1], [0.5, 0.2]],
    "total_request_rate": 30.0,
    "slice_factor": 1,
}


def toy(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(TOY)), **changes}


def test_indivisible_toy() -> None:
    answer = solve_melange(TOY)
    assert answer["cost"] == pytest.approx(6.70, rel=1e-6)
    assert answer["fleet"] == {"small": 3, "large": 1}
    assert answer["status"] == "optimal"
    assert answer["bound"] == pytest.approx(6.70, rel=1e-4)
    assert answer["gap"] <= 1e-4


def test_divisible_toy() -> None:
    answer = solve_melange(TOY, divisible=True)
    assert answer["cost"] == pytest.approx(4.68, rel=1e-6)
    assert answer["fleet"] == {"small": 1, "large": 1}


def test_finer_slices_never_cost_more() -> None:
    costs = [solve_melange(toy(slice_factor=factor))["cost"] for factor in (1, 2, 4)]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] == pytest.approx(5.69, rel=1e-6)


def test_assignment_serves_every_bucket_within_the_fleet() -> None:
    answer = solve_melange(toy(slice_factor=4))
    used = dict.fromkeys(TOY["gpu_info"], 0.0)
    served: dict[tuple[int, int], float] = {}
    for row in answer["assignment"]:
        i, j = row["bucket"]
        served[i, j] = served.get((i, j), 0.0) + row["share"]
        assert row["share"] * 4 == pytest.approx(round(row["share"] * 4))
        rate = TOY["workload_distribution"][i][j] * TOY["total_request_rate"] * row["share"]
        used[row["gpu"]] += rate / TOY["gpu_info"][row["gpu"]]["tputs"][i][j]
    assert served == {(i, j): pytest.approx(1.0) for i in (0, 1) for j in (0, 1)}
    assert all(used[gpu] <= answer["fleet"].get(gpu, 0) + 1e-6 for gpu in used)


def test_zero_throughput_is_a_pair_that_cannot_be() -> None:
    document = toy()
    document["gpu_info"]["small"]["tputs"] = [[0, 0], [0, 0]]
    assert solve_melange(document)["fleet"] == {"large": 2}
    document["gpu_info"]["large"]["tputs"][1][0] = 0
    with pytest.raises(InputError, match=r"no GPU type has a throughput above zero"):
        solve_melange(document)


def test_no_traffic_needs_nothing() -> None:
    answer = solve_melange(toy(total_request_rate=0))
    assert (answer["cost"], answer["fleet"], answer["assignment"]) == (0.0, {}, [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu_info": {}}, "gpu_info"),
        ({"total_request_rate": -1}, "total_request_rate"),
        ({"total_request_rate": float("nan")}, "total_request_rate"),
        ({"total_request_rate": "many"}, "total_request_rate"),
        ({"slice_factor": 0}, "slice_factor"),
        ({"workload_distribution": [[0.5, 0.5]]}, "differ in shape"),
        ({"workload_distribution": [[0, 0], [0, 0]]}, "zero everywhere"),
        ({"gpu_info": {"x": {"tputs": [[1, 1], [1, 1]]}}}, "missing"),
    ],
)
def test_broken_files(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        solve_melange(toy(**changes))


@pytest.mark.parametrize("document", [None, [], 3, "x", {}])
def test_not_a_melange_file(document: Any) -> None:
    with pytest.raises(InputError):
        solve_melange(document)


def test_names_that_a_solver_rewrites_do_not_collide() -> None:
    document = toy()
    cards = document["gpu_info"].pop("large"), document["gpu_info"].pop("small")
    document["gpu_info"] = {"A100-80GB": cards[0], "A100_80GB": cards[1]}
    assert solve_melange(document)["fleet"] == {"A100-80GB": 1, "A100_80GB": 3}


@pytest.mark.skipif(not ORACLES.exists(), reason="shared/data/oracles/melange is not here")
@pytest.mark.parametrize("path", sorted(ORACLES.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("divisible", [False, True], ids=["slices", "divisible"])
def test_oracles(path: Path, divisible: bool) -> None:
    document = json.loads(path.read_text())
    answer = solve_melange(document, divisible=divisible)
    known = document["oracle"]["divisible" if divisible else "slices"]["cost"]
    assert answer["cost"] == pytest.approx(known, rel=1e-4)
    assert answer["bound"] <= known * (1 + 1e-6)
