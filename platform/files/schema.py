"""The shape of a search file as a JSON schema, by which editors complete, explain and check: made from the models.

It lets pass whatever a sweep takes, and more: what only both together tell is the command's to say.
"""

from __future__ import annotations

import json
from typing import Any

from platform.files.spec import Spec
from trainables.settings.explained import settings_schema

WHERE = "search_spaces/schema.json"  # it is committed, and a test holds it to the code
_SETTINGS = {"$ref": "#/$defs/settings"}
_PUBLISHED = {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}


def schema() -> dict[str, Any]:
    """The schema of a search or an ablation, with its profiles."""
    made = Spec.model_json_schema(by_alias=True)
    parts, keys = made["$defs"], made["properties"]
    parts["settings"] = settings_schema()
    names = parts["settings"]["properties"]
    lists = {name: {"type": "array", "items": _value(of)} for name, of in names.items()}
    keys["base"] = {**_SETTINGS, "description": "what every trial has, unless a row, a column or the search changes it"}
    for part in ("Row", "LeftOut", "Column"):
        parts[part]["properties"]["set"] = {"anyOf": [_SETTINGS, {"type": "null"}]}
    keys["grid"] = parts["Row"]["properties"]["grid"] = {"type": "object", "properties": lists}
    keys["published"] = parts["Row"]["properties"]["published"] = _PUBLISHED
    dimension = keys["search"]["additionalProperties"]
    described = {n: {"description": of["description"], **dimension} for n, of in names.items() if "description" in of}
    keys["search"] = {"type": "object", "properties": described, "additionalProperties": dimension}
    one = keys["objective"]["items"]
    keys["objective"] = {"anyOf": [one, {"type": "array", "items": one}]}
    start = {"anyOf": [{"type": "string"}, _SETTINGS]}
    keys["start_from"] = {"anyOf": [*start["anyOf"], {"type": "array", "items": start}]}
    keys["until"] = {"anyOf": [{"const": "decided"}, {"$ref": "#/$defs/Decided"}]}
    column = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Column"}]}
    keys["columns"] = {"type": "object", "additionalProperties": column}
    keys["leave_one_out"]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/LeftOut"}]}
    gpus = {"anyOf": [{"type": "number", "minimum": 0}, {"const": "auto"}]}
    parts["Resources"]["properties"]["gpus_per_worker"] = gpus
    parts["Paper"]["properties"]["table"] = {"type": ["integer", "string"]}
    for kind in ("FloatRange", "IntRange", "Choice"):
        parts[kind]["properties"]["when"] = {"type": "object"}
    # A profile is merged in key by key: any part of a file may stand there, and null takes one away.
    changes = {key: _SETTINGS if key == "base" else {} for key in keys}
    profile = {"type": "object", "properties": changes, "additionalProperties": False}
    said = "changes to the file, by the name that --profile takes"
    keys["profiles"] = {"type": "object", "additionalProperties": profile, "description": said}
    title = "A search or an ablation: python -m platform.sweep FILE"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}


def schema_text() -> str:
    """As it is committed."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _value(setting: dict[str, Any]) -> dict[str, Any]:
    """What may stand in a list of a setting's values."""
    return {name: value for name, value in setting.items() if name != "description"}
