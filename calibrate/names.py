"""The catalogue's name of a GPU from the name its driver reports."""

from __future__ import annotations

import re

# words that must all stand in the driver's name -> catalogue name; the first match wins
_KNOWN: list[tuple[tuple[str, ...], str]] = [
    (("gh200",), "gh200"),
    (("gb300",), "gb300"),
    (("b300",), "b300-sxm-288gb"),
    (("gb200",), "gb200"),
    (("h100", "nvl"), "h100-nvl-94gb"),
    (("h20",), "h20"),
    (("a30",), "a30"),
    (("l40",), "l40"),
    (("rtx", "a6000"), "rtx-a6000"),
    (("rtx", "3090"), "rtx-3090"),
    (("rtx", "5090"), "rtx-5090"),
    (("h100", "pcie"), "h100-pcie-80gb"),
    (("h100", "80gb"), "h100-sxm-80gb"),
    (("h200",), "h200-sxm-141gb"),
    (("b200",), "b200-sxm-180gb"),
    (("v100", "sxm2", "16gb"), "v100-sxm-16gb"),
    (("v100", "sxm2", "32gb"), "v100-sxm-32gb"),
    (("a100", "sxm4", "80gb"), "a100-sxm-80gb"),
    (("a100", "sxm4", "40gb"), "a100-sxm-40gb"),
    (("a100", "pcie", "40gb"), "a100-pcie-40gb"),
    (("l40s",), "l40s"),
    (("l4",), "l4"),
    (("t4",), "t4"),
    (("a10g",), "a10g"),
    (("a10",), "a10"),
    (("a40",), "a40"),
    (("rtx", "6000", "ada"), "rtx-6000-ada"),
    (("rtx", "pro", "6000"), "rtx-pro-6000"),
    (("rtx", "4090"), "rtx-4090"),
]


def slug(name: str) -> str:
    """Lower case, words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def gpu_name(driver_name: str) -> str:
    """The catalogue's name where it is known, else the driver's name as a slug."""
    words = slug(driver_name).split("-")
    for wanted, name in _KNOWN:
        if all(word in words for word in wanted):
            return name
    return slug(driver_name.removeprefix("NVIDIA "))
