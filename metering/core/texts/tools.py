"""How a model is shown the tools it may call: OpenAI's as TypeScript declarations, all others' as their JSON."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

_HEAD, _FOOT = "namespace functions {\n", "} // namespace functions"
_DEPTH_MAX = 8


def as_json(values: Iterable[Any]) -> str:
    """The tools as most models are shown them."""
    return "\n".join(msgspec.json.encode(value).decode() for value in values)


def as_typescript(tools: Iterable[Any]) -> str:
    """The tools as OpenAI's models are shown them; what can't be declared so, as JSON."""
    lines, others = [_HEAD], []
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            others.append(tool)
            continue
        lines += _comment(function, "")
        parameters = function.get("parameters")
        fields = list(_fields(parameters, "", _DEPTH_MAX)) if isinstance(parameters, dict) else []
        name = function["name"]
        lines += [f"type {name} = (_: {{", *fields, "}) => any;\n"] if fields else [f"type {name} = () => any;\n"]
    return "\n".join([*lines, _FOOT, *([as_json(others)] if others else ())])


def _fields(schema: dict[str, Any], indent: str, depth: int) -> Iterator[str]:
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    properties = schema.get("properties")
    for name, about in properties.items() if isinstance(properties, dict) else ():
        if isinstance(about, dict):
            yield from _comment(about, indent)
            mark = "" if name in required else "?"
            yield f"{indent}{name}{mark}: {_type(about, indent, depth)},"


def _type(schema: dict[str, Any], indent: str, depth: int) -> str:
    values = schema.get("enum")
    if isinstance(values, list):
        return " | ".join(msgspec.json.encode(value).decode() for value in values)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return "number"
    if kind == "array":
        items = schema.get("items")
        return (_type(items, indent, depth - 1) if isinstance(items, dict) and depth else "any") + "[]"
    if kind == "object":
        fields = list(_fields(schema, indent + "  ", depth - 1)) if depth else []
        return "\n".join(["{", *fields, f"{indent}}}"]) if fields else "object"
    return kind if isinstance(kind, str) else "any"


def _comment(about: dict[str, Any], indent: str) -> list[str]:
    said = about.get("description")
    return [f"{indent}// {said}"] if isinstance(said, str) and said else []
