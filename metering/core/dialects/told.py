"""Answers that differ only in where their counts stand: data, not code."""

from collections.abc import Collection, Mapping
from functools import reduce
from typing import Any

import msgspec

from metering.core.dialects.counts import count, first_count, milliseconds, numbers, word
from metering.core.dialects.found import NAMING_FRAMES_MAX, Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.usage import Usage

Paths = tuple[tuple[str, ...], ...]
_EMPTY = msgspec.Raw(b"")
DIGITS_MAX = 16


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dialect tells what."""

    places: Mapping[str, Paths] = {}  # field of `Usage` → where in the usage object; told in seconds if it ends in _ms
    holds: tuple[str, ...] = ("usage",)  # the usage object, or the counts of the answer itself that make one up
    inside: tuple[str, ...] = ()  # members that hold the answer itself, in a stream's last frame for example
    model: str = "model"  # "" where no answer names its model
    response_id: str = "id"
    headers: Mapping[str, str] = {}  # of the answer → field of `Usage`, where the body does not tell it
    # Members of which one that is true ends a stream that tells in each frame what was consumed so far.
    ends: tuple[str, ...] = ()
    fails: tuple[str, Collection[str]] = ("error", ())  # a member and those words of it that say that the call failed


class Told(Meaning):
    """One object, a list of them, or a stream of which the last frame that tells tells all.

    Only numbers are kept of what holds the usage.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.headers = tuple(layout.headers)
        self.telling = frozenset(layout.holds)
        names = (layout.model, layout.response_id, "error", layout.fails[0], *layout.holds, *layout.ends)
        self.members: Collection[str] = tuple(dict.fromkeys(filter(None, names)))
        self.cut_depth = 2 if layout.inside else 1
        fields: list[Any] = [(name, Any, None) for name in self.members]
        fields += [(name, msgspec.Raw, _EMPTY) for name in layout.inside]
        self._shape = msgspec.defstruct("Answer", fields)
        self._decode = msgspec.json.Decoder(self._shape).decode
        self._decode_list = msgspec.json.Decoder(list[self._shape]).decode  # type: ignore[name-defined]  # a type made here

    def read(self, text: bytes, found: Found) -> bool:
        try:
            self.take(self._decode(text), found)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return self._read_list(text, found)
        return True

    def _read_list(self, text: bytes, found: Found) -> bool:
        """Several answers to one request: what they tell adds up."""
        if not text.lstrip().startswith(b"["):
            return False
        try:
            answers = self._decode_list(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        for answer in answers:
            self.take(answer, found)
        told = [raw for answer in answers if (raw := self.raw_usage(answer))]
        found.raw_usage = reduce(_add, told) if told else None
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self.take(self._shape(**members), found)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_errors(stream, found)
        told_before = found.final  # by a last frame of which the beginning is lost
        if told_before:
            return True
        self.read_names(stream, found)
        for name in self._layout.holds:
            found.told = False
            for text in stream.having_from_end(b'"%s"' % name.encode()):
                if self.read(text, found) and found.told:
                    return found.final or stream.is_done()
        return found.final or stream.is_done()

    def read_names(self, stream: Stream, found: Found) -> None:
        for text in stream.first(NAMING_FRAMES_MAX):
            self.read(text, found)
            if found.response_id and (found.model or not self._layout.model):
                break

    def take(self, answer: Any, found: Found) -> None:
        """Take what stands in an answer, or in the members of it that were kept."""
        layout = self._layout
        if layout.model:
            found.model = word(getattr(answer, layout.model)) or found.model
        found.response_id = word(getattr(answer, layout.response_id)) or found.response_id
        member, words = layout.fails
        found.failed = found.failed or bool(answer.error) or getattr(answer, member) in words
        if raw := self.raw_usage(answer):
            found.raw_usage, found.told = {**(found.raw_usage or {}), **raw}, True
            found.final = not layout.ends or any(getattr(answer, name) for name in layout.ends)
        for name in layout.inside:
            if inner := getattr(answer, name):
                try:
                    self.take(self._decode(inner), found)
                except (msgspec.DecodeError, RecursionError, ValueError):
                    continue

    def raw_usage(self, answer: Any) -> dict[str, Any]:
        """The numbers of the provider's usage object."""
        held = {name: value for name in self._layout.holds if (value := getattr(answer, name)) is not None}
        if len(self._layout.holds) == 1 and isinstance(usage := next(iter(held.values()), None), dict):
            return numbers(usage)
        return numbers(held)

    def usage(self, found: Found) -> Usage | None:
        usage = self.count(found.raw_usage) if found.raw_usage else None
        told = self.header_counts(found.headers) if self._layout.headers else None
        if not told:
            return usage
        found.from_headers = usage is None
        usage = usage or Usage()
        missing = {field: quantity for field, quantity in told.items() if getattr(usage, field) is None}
        return msgspec.structs.replace(usage, **missing)

    def count(self, raw: dict[str, Any]) -> Usage | None:
        """The `Usage` in the provider's own object."""
        counts = {field: _first(raw, field, paths) for field, paths in self._layout.places.items()}
        return None if all(told is None for told in counts.values()) else Usage(**counts)

    def header_counts(self, headers: Mapping[str, str]) -> dict[str, int]:
        """What the headers tell, by field of `Usage`."""
        counts = [(field, _whole(headers.get(name, ""))) for name, field in self._layout.headers.items()]
        return {field: told for field, told in counts if told is not None}


def _first(raw: Mapping[str, Any], field: str, paths: Paths) -> int | None:
    if not field.endswith("_ms"):
        return first_count(raw, paths)
    for path in paths:
        value: Any = raw
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if (told := milliseconds(value)) is not None:
            return told
    return None


def _whole(text: str) -> int | None:
    return count(int(text)) if text.isdecimal() and len(text) <= DIGITS_MAX else None


def _add(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both objects in one: whole numbers add up, others mean nothing together."""
    total: dict[str, Any] = {}
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        if isinstance(a, int) and isinstance(b, int):
            total[key] = a + b
        elif isinstance(a, dict) and isinstance(b, dict):
            total[key] = _add(a, b)
    return total
