"""JSON schemas for editors: what pydantic makes of a model, with what each key means and its unit."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # a name, never fetched
Words = dict[str, dict[str, str]]  # model -> key -> what it means


def described(model: type[BaseModel], words: Words) -> dict[str, Any]:
    """The JSON schema of a model, each key with its description from `words` (by the model it stands in)."""
    schema = model.model_json_schema()
    for name, part in [(model.__name__, schema), *schema.get("$defs", {}).items()]:
        for key, entry in part.get("properties", {}).items():
            text = words.get(name, {}).get(key)
            if text is not None:
                entry["description"] = text
    return {"$schema": DIALECT, **schema}


def undescribed(schema: dict[str, Any]) -> list[str]:
    """Keys of a schema that say nothing of themselves, as Model.key; a key with one allowed value needs no words."""
    parts = [(schema.get("title", ""), schema), *schema.get("$defs", {}).items()]
    return [
        f"{name}.{key}"
        for name, part in parts
        for key, entry in part.get("properties", {}).items()
        if "description" not in entry and "const" not in entry
    ]
