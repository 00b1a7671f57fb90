"""What can be wrong with a row, in words, and the count of bad rows a user allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from profiles.inputs import InputError

MAX_TOKENS = 10_000_000  # more in one request is taken for a mistake
MAX_TIME_S = 4e9  # 127 years: room for seconds since 1970, none for a time in milliseconds
_SKIP = "or skip up to N such rows with allow_bad_rows: N"


@dataclass(frozen=True, slots=True, order=True)
class BadRow:
    """One refused row: where, what is wrong with it and how to mend it."""

    line: int
    column: str = ""
    what: str = ""
    mend: str = ""
    blank: bool = False


@dataclass(slots=True)
class BadRows:
    """The bad rows met so far; more than `allowed` of them is an error."""

    path: str | Path
    allowed: int
    rows: list[BadRow] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)  # lines of calls that failed: no request, no mistake

    @property
    def left_out(self) -> list[int]:
        """Lines that became no request."""
        return [*(row.line for row in self.rows), *self.failed]

    def add(self, row: BadRow) -> None:
        """Remember a bad row."""
        self.rows.append(row)

    def settle(self, last_line: int, *, at_end: bool = False) -> None:
        """Judge what was met up to `last_line`, the last line with a request; blank lines after it are harmless.

        Raises:
            InputError: more bad rows than allowed; it names the first one that is too many.
        """
        if at_end:
            self.rows = [row for row in self.rows if not row.blank or row.line < last_line]
        counted = sorted(row for row in self.rows if not row.blank or row.line < last_line)
        if len(counted) <= self.allowed:
            return
        row = counted[self.allowed]
        mend = f"{row.mend}, {_SKIP}" if row.mend else _SKIP.removeprefix("or ")
        what = f"{row.what} (and {self.allowed} allowed bad rows before it)" if self.allowed else row.what
        raise InputError(what, file=self.path, line=row.line, field=row.column or None, mend=mend)


def quoted(value: object) -> str:
    """A value as it may stand in a message: short and on one line."""
    text = value if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def token_fault(text: str, *, output: bool) -> tuple[str, str]:
    """What is wrong with a token count and how to mend it."""
    if not text:
        return "is empty", "write a whole number"
    if text.isdigit() and text.isascii() and (text == "0" or text[0] != "0"):
        if text == "0" and output:
            return "is 0", "a request without output is a failed call: take it out"
        if text == "0":
            return "is 0", "a request has at least one prompt token"
        return f"{quoted(text)} is more than {MAX_TOKENS:,} tokens", "is it the right column?"
    if text[0] == "-" and text[1:].isdigit():
        return f"{quoted(text)} is negative", "tokens are counted from 1"
    return f"{quoted(text)} is not a whole number", "write plain digits without quotes, spaces, zeros before or 0x"


def time_fault(text: str, clock: str) -> tuple[str, str]:
    """What is wrong with a time and how to mend it."""
    if not text:
        return "is empty", "write the time of arrival"
    if clock == "stamp":
        return f"{quoted(text)} is not a date and time", "write it like 2023-11-16 18:15:46.6805900"
    unit = "seconds" if clock == "s" else "milliseconds"
    return f"{quoted(text)} is not a time in {unit} from 0 to {MAX_TIME_S:g} s", f"write {unit} as a plain number"
