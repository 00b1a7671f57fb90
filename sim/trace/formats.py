"""The table of trace formats. A format is known by the columns or keys it has, never by a file's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from profiles.inputs import InputError

Clock = Literal["stamp", "s", "ms", "epoch"]


@dataclass(frozen=True, slots=True)
class Format:
    """One trace format: where time and tokens stand.

    clock: how the time is written, as a calendar stamp, in seconds, in milliseconds or in seconds since 1970.
    ones: columns that must be 1 in every row, because carbonfleet knows no other meaning.
    blocks: key of the optional list of prefix block ids (JSON lines only).
    """

    name: str
    kind: Literal["csv", "jsonl"]
    time: str
    clock: Clock
    prompt: str
    output: str
    ones: tuple[str, ...] = ()
    fails: bool = False  # no output means a call that failed: left out and counted, no mistake
    blocks: str | None = None
    silent: tuple[str, ...] = ()  # columns that bear on nothing here and need no note

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns without which it is not this format."""
        return (self.time, self.prompt, self.output, *self.ones)


FORMATS: tuple[Format, ...] = (
    Format("Azure LLM inference trace", "csv", "TIMESTAMP", "stamp", "ContextTokens", "GeneratedTokens"),
    Format("Mooncake", "jsonl", "timestamp", "ms", "input_length", "output_length", blocks="hash_ids"),
    Format(
        "vLLM request log",
        "jsonl",
        "arrival_time",
        "epoch",
        "input_toks",
        "output_toks",
        silent=("request_id", "queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts"),
    ),
    Format(
        "BurstGPT",
        "csv",
        "Timestamp",
        "s",
        "Request tokens",
        "Response tokens",
        fails=True,
        silent=("Model", "Total tokens", "Log Type", "Session ID", "Elapsed time"),
    ),
    Format("LiteLLM spend log", "csv", "startTime", "stamp", "prompt_tokens", "completion_tokens", fails=True),
    Format("LiteLLM spend log", "jsonl", "startTime", "stamp", "prompt_tokens", "completion_tokens", fails=True),
    Format("Vidur", "csv", "arrived_at", "s", "num_prefill_tokens", "num_decode_tokens"),
    Format(
        "splitwise-sim",
        "csv",
        "arrival_timestamp",
        "s",
        "prompt_size",
        "token_size",
        ones=("batch_size",),
        silent=("request_id", "request_type", "application_id"),
    ),
    Format("carbonfleet", "csv", "arrival_s", "s", "prompt_tokens", "output_tokens"),
)


def known() -> str:
    """The known formats in half a sentence, for messages."""
    return "; ".join(f"{f.name} ({f.kind}: {','.join(f.needed)})" for f in FORMATS)


def recognise(names: Sequence[str], kind: str, path: str | Path) -> Format:
    """The format that has these columns (csv) or keys (jsonl).

    Raises:
        InputError: a column twice, one missing, none known, or more than one format fits.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"column {_short(twice[0])} stands twice", file=path, line=1, mend="name each column once")
    candidates = [f for f in FORMATS if f.kind == kind]
    fits = [f for f in candidates if set(f.needed) <= set(names)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise InputError(
            f"has the columns of {' and of '.join(f.name for f in fits)}", file=path, line=1, mend="keep those of one"
        )
    near = max(candidates, key=lambda f: len(set(f.needed) & set(names)))
    missing = [name for name in near.needed if name not in names]
    if len(missing) < len(near.needed):
        raise InputError(
            f"{missing[0]} is missing", file=path, line=1, mend=f"{near.name} traces have {','.join(near.needed)}"
        )
    shown = _short(",".join(names))
    raise InputError(f"unknown trace format (it begins {shown})", file=path, line=1, mend=f"known: {known()}")


def _short(text: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return repr(printable if len(printable) <= 60 else printable[:57] + "...")
