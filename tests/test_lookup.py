"""Finding the profile of a configuration: what is measured first, a prediction where one is asked for and possible."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.inputs import InputError
from profiles.lookup import find_profile
from profiles.profile import TIERS, load_all, shipped_folder

H100, MODEL = "h100-sxm-80gb", "llama-3.1-8b"
LIBRARY = load_all([shipped_folder()])


def test_what_is_measured_comes_before_what_is_predicted() -> None:
    for predict in (False, True):
        path, profile = find_profile(LIBRARY, H100, MODEL, 1, "bf16", predict=predict)
        assert path is not None
        assert profile.gpu == H100
        better = [
            p.provenance.tier for _, p in LIBRARY if (p.gpu, p.model, p.tp, p.precision) == (H100, MODEL, 1, "bf16")
        ]
        assert profile.provenance.tier == min(better, key=TIERS.index)


def test_a_missing_profile_is_predicted_only_where_asked_for() -> None:
    with pytest.raises(InputError, match="or say predict: true"):
        find_profile(LIBRARY, "t4", MODEL, 2, "fp16")
    path, profile = find_profile(LIBRARY, "t4", MODEL, 2, "fp16", predict=True)
    assert path is None
    assert profile.provenance.kind == "predicted"
    assert profile.engine == "vllm"


def test_an_engine_not_measured_here_is_predicted_where_the_predictor_knows_it() -> None:
    path, profile = find_profile(LIBRARY, H100, MODEL, 1, "bf16", "sglang", predict=True)
    assert path is None
    assert profile.engine == "sglang"
    assert profile.provenance.tier != "T3"


@pytest.mark.parametrize("gpu", [H100, "t4"])
def test_a_misspelt_engine_is_refused_and_not_predicted(gpu: str) -> None:
    with pytest.raises(InputError, match="no profile with engine vlllm") as told:
        find_profile(LIBRARY, gpu, MODEL, 2, "fp16", "vlllm", predict=True)
    assert "vllm" in (told.value.mend or "")


@pytest.mark.parametrize(
    ("asked", "what"),
    [((H100, MODEL, 3, "bf16", None, 3), "no profile"), (("t4", "llama-3.1-405b", 1, "bf16"), "leave no room")],
)
def test_what_cannot_be_predicted_is_an_error(asked: tuple[Any, ...], what: str) -> None:
    with pytest.raises(InputError, match=what):
        find_profile(LIBRARY, *asked, predict=True)
