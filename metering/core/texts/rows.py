"""Where texts stand in JSON: rows of a path and a kind, and the one function that takes what they name.

The dialects' paths do not collide, so one table of rows serves them all, and a server that borrows from two dialects
is read as well. A path is members divided by dots; `a|b` is the first of them that says something; `[]` is each
element of a list, `[name]` each with a truthy member `name`, `[name=value]` each where it says so, `[!…]` each other;
behind an object they say whether it is wanted.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import msgspec

UNTYPED = "untyped"
_STEP = re.compile(r"([^.\[]*)(\[[^\]]*\])?")
# Members that number what a streamed piece belongs to.
_INDEXES = ("index", "output_index", "content_index", "summary_index", "contentBlockIndex", "delta_index")

Key = tuple[Any, ...]
Step = tuple[tuple[str, ...], str | None]  # the member's names, and what is wanted of the elements of a list


class Kind(Enum):
    """What a piece of text is to a model."""

    TEXT = "text"
    REASONING = "reasoning"  # thought, and shown as it was thought
    SUMMARY = "summary"  # of what was thought: written by another hand
    CALL = "call"  # the name of a tool that is called
    ARGUMENTS = "arguments"
    RESULT = "result"  # of a tool
    TOOL = "tool"  # an object that describes one
    SCHEMA = "schema"  # an object that the answer must follow
    IMAGE = "image"
    AUDIO = "audio"
    DOCUMENT = "document"
    IDS = "ids"  # token ids instead of a text


class Row(msgspec.Struct, frozen=True):
    """One place. `event`: only in frames whose `type` it is; `UNTYPED`: only in those that have none."""

    kind: Kind
    path: str
    event: str = ""


class Texts:
    """What was found: pieces by kind, in order, those of a stream put together again."""

    def __init__(self) -> None:
        self.pieces: dict[Kind, dict[Key, str]] = {}
        self.values: dict[Kind, list[Any]] = {}
        self.messages = 0
        self.roles: list[str] = []

    def add(self, kind: Kind, key: Key, text: str) -> None:
        """A piece more of the text `key`; a name that is told again with each piece is one name."""
        found = self.pieces.setdefault(kind, {})
        if not (kind is Kind.CALL and found.get(key) == text):
            found[key] = found.get(key, "") + text

    def of(self, *kinds: Kind) -> list[str]:
        """The texts of `kinds`."""
        return [text for kind in kinds for text in self.pieces.get(kind, {}).values() if text]

    def objects(self, kind: Kind) -> list[Any]:
        """The values of `kind` that are more than text."""
        return self.values.get(kind, [])

    def schemas(self) -> list[Any]:
        """What the answer must follow; Ollama's bare "json" is none."""
        return [schema for schema in self.objects(Kind.SCHEMA) if isinstance(schema, dict)]

    def __bool__(self) -> bool:
        return bool(self.values) or any(any(found.values()) for found in self.pieces.values())


class CompiledRows:
    """Rows ready to be looked for in one JSON value after the other."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = [(number, row, _compile(row.path)) for number, row in enumerate(rows)]

    def take(self, value: Any, found: Texts) -> None:
        """Add to `found` what the rows name in `value`."""
        about = value if isinstance(value, dict) else {}
        event = about.get("type", UNTYPED)
        index = tuple(about[name] for name in _INDEXES if isinstance(about.get(name), int))
        for number, row, steps in self._rows:
            if row.event and row.event != event:
                continue
            for key, piece in _walk(value, steps, (number, *index)):
                _add(found, row.kind, key, piece)


def _compile(path: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for name, elements in _STEP.findall(path):
        if name:
            steps.append((tuple(name.split("|")), None))
        if elements:
            steps.append(((), elements[1:-1]))
    return tuple(steps)


def _walk(value: Any, steps: tuple[Step, ...], key: Key) -> Iterator[tuple[Key, Any]]:
    if not steps:
        if value:
            yield key, value
        return
    (names, wanted), rest = steps[0], steps[1:]
    if wanted is None:
        for name in names if isinstance(value, dict) else ():
            found = list(_walk(value.get(name), rest, key))
            yield from found
            if found:
                break
    elif isinstance(value, dict):
        yield from _walk(value, rest, key) if wanted and _is_wanted(value, wanted) else ()
    elif isinstance(value, list):
        for place, element in enumerate(value):
            if not wanted or _is_wanted(element, wanted):
                number = element.get("index") if isinstance(element, dict) else None
                yield from _walk(element, rest, (*key, place if number is None else number))


def _is_wanted(element: Any, wanted: str) -> bool:
    name, _, value = wanted.lstrip("!").partition("=")
    found = element.get(name) if isinstance(element, dict) else None
    has = found == value if value else bool(found)
    return has is not wanted.startswith("!")


_AS_TEXT = frozenset({Kind.ARGUMENTS, Kind.RESULT})
_AS_VALUE = frozenset({Kind.TOOL, Kind.SCHEMA, Kind.IMAGE, Kind.AUDIO, Kind.DOCUMENT, Kind.IDS})


def _add(found: Texts, kind: Kind, key: Key, piece: Any) -> None:
    if kind in _AS_VALUE:
        found.values.setdefault(kind, []).append(piece)
    elif isinstance(piece, str):
        found.add(kind, key, piece)
    elif kind in _AS_TEXT and isinstance(piece, dict | list):
        found.add(kind, key, msgspec.json.encode(piece).decode())
