"""The checked door: every file a user feeds us comes in through here, and every refusal is one line.

A refusal says what is wrong, where (file, line, field) and how to mend it.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

ModelT = TypeVar("ModelT", bound=BaseModel)
_PACKED = {".gz": "gzip", ".zst": "zstd"}


class CarbonfleetError(Exception):
    """Root of every error a user can cause; `exit_code` is what the command line exits with."""

    exit_code = 1


class InputError(CarbonfleetError):
    """Something a user gave is wrong: `what`, where (`file`, `line`, `field`) and how to `mend` it."""

    def __init__(
        self,
        what: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.what, self.file, self.line, self.field, self.mend = what, file, line, field, mend
        where = ":".join(str(part) for part in (file, line) if part is not None)
        text = ": ".join(part for part in (where, field, what) if part)
        text = f"{text}; {mend}" if mend else text
        super().__init__(" ".join(text.split()))


def near_miss(name: str, known: Iterable[str]) -> str:
    """The mending half-sentence for an unknown name: the nearest known one, or the whole list."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def open_bytes(path: str | Path) -> IO[bytes]:
    """Open a file for streaming; gz and zst are unpacked on the way.

    Raises:
        InputError: the file is not there, not a file or not readable.
    """
    file = Path(path)
    if not file.exists():
        raise InputError("no such file", file=file, mend="check the path")
    if not file.is_file():
        raise InputError("not a file", file=file, mend="give a file, not a folder")
    try:
        if file.suffix in _PACKED:
            import pyarrow as pa

            return pa.input_stream(str(file), compression=_PACKED[file.suffix])  # type: ignore[no-any-return]
        return file.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from error


def read_text(path: str | Path) -> str:
    """The whole of a UTF-8 text file (gz and zst unpacked).

    Raises:
        InputError: the file cannot be read or is not UTF-8.
    """
    try:
        with open_bytes(path) as stream:
            return stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", file=path, mend="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error})", file=path, mend="is it whole?") from error


def read_json(path: str | Path) -> Any:
    """A JSON document.

    Raises:
        InputError: the file cannot be read or is not JSON; NaN and Infinity are refused.
    """

    def refuse(token: str) -> float:
        raise InputError(f"{token} is not a number", file=path, mend="write a finite number or null")

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg})", file=path, line=error.lineno) from error
    except RecursionError as error:
        raise InputError("not JSON (nested too deeply)", file=path) from error
    except ValueError as error:  # an integer of thousands of digits
        raise InputError("not JSON (a number is too long)", file=path) from error


def csv_records(path: str | Path, needed: Sequence[str], what: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and fields by name of every row of a CSV with a header.

    Raises:
        InputError: not `what` (a needed column is missing), no CSV, or a row that is cut short.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            names = ", ".join(missing)
            raise InputError(f"not {what}: no column {names}", file=path, line=1, mend="is it the right file?")
        for record in reader:
            if any(record[name] is None for name in needed):
                raise InputError("the row is cut short", file=path, line=reader.line_num)
            yield reader.line_num, record
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", file=path, line=reader.line_num) from error


class _MarkedLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and remembers on which line each key stands."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.lines: dict[tuple[Any, ...], int] = {}

    def walk(self, node: yaml.Node, path: tuple[Any, ...] = ()) -> None:
        """Record the line of every key and item below `node`."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[Any] = set()
            for key_node, value_node in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str | int | float | bool) or key in seen:
                    what = f"{key} is given twice" if isinstance(key, str) else "a key must be a word"
                    raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
                seen.add(key)
                self.lines[(*path, key)] = key_node.start_mark.line + 1
                self.walk(value_node, (*path, key))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.walk(item, (*path, index))


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """A YAML mapping and the line on which each key stands. Aliases are refused (they can explode).

    Raises:
        InputError: not readable, not YAML, not a mapping, a key given twice, an alias used.
    """
    text = read_text(path)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise InputError("YAML aliases (*name) are not allowed", file=path, mend="write the value out")
        loader = _MarkedLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise InputError("the file is empty", file=path)
        loader.walk(node)
        data = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise InputError(f"not YAML ({what})", file=path, line=mark.line + 1 if mark else None) from error
    if not isinstance(data, dict):
        raise InputError("must be a mapping of keys to values", file=path, line=1)
    return data, loader.lines


def validate(
    model: type[ModelT],
    data: Any,
    *,
    file: str | Path | None = None,
    lines: dict[tuple[Any, ...], int] | None = None,
) -> ModelT:
    """`data` as a `model`, or the first complaint as an InputError with its line and field.

    Raises:
        InputError: a key is unknown (the near miss is named), missing, or its value is refused.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        complaints = error.errors(include_url=False)
        # an unknown key first: what is missing is then often only misspelt
        first = min(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    path = tuple(first["loc"])
    marks = lines or {}
    line = next((marks[path[:n]] for n in range(len(path), -1, -1) if path[:n] in marks), None)
    field = ".".join(str(part) for part in path)
    what, mend = first["msg"].removeprefix("Value error, "), None
    if first["type"] == "extra_forbidden":
        what, mend = "unknown key", near_miss(str(path[-1]), _keys_at(model, path[:-1]))
    elif first["type"] == "missing":
        what, mend = "missing", "add it"
    raise InputError(what, file=file, line=line, field=field, mend=mend)


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Field names of the model that stands at `path` inside `model`; a tag in the path chooses among alternatives."""
    here = [model]
    for part in path:
        tagged = [one for one in here if len(here) > 1 and part in _tags(one)]
        inside = [
            one.model_fields[part].annotation for one in here if isinstance(part, str) and part in one.model_fields
        ]
        if tagged:
            here = tagged
        elif inside:
            here = [one for kind in inside for one in _models_in(kind)] or here
    return [name for one in here for name in one.model_fields]


def _models_in(kind: Any) -> list[type[BaseModel]]:
    """The models an annotation is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in _models_in(part)]


def _tags(model: type[BaseModel]) -> set[Any]:
    """The words by which a model is told apart in a union: of its literal fields."""
    kinds = [field.annotation for field in model.model_fields.values()]
    return {word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)}


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes as they lie on disk, for the manifest."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
