"""What may be taken from an answer: counts, short words, and usage objects without any text.

Whatever an upstream sends, nothing that could be a prompt or a completion leaves a reader.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

# The largest integer every JSON reader keeps exact; far beyond any count of tokens.
COUNT_MAX = 2**53 - 1
WORD_LENGTH_MAX = 256
USAGE_WORD_LENGTH_MAX = 64
USAGE_DEPTH_MAX = 6
USAGE_MEMBERS_MAX = 256
_AMOUNT = re.compile(r"[0-9]{1,16}(\.[0-9]{1,32})?([eE]-?[0-9]{1,2})?")
_CONTAINERS = (dict, list)  # `dict | list` would be built anew at each question


def count(value: object) -> int | None:
    """`value` if it is a count: a whole number, not negative, not a bool."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= COUNT_MAX:  # not a bool, which is an int too
        return value
    return None


def money(value: object) -> Decimal | None:
    """An amount exactly as it was told, in a number or a text. A float by its shortest text, never rounded."""
    if type(value) not in (int, float, str) or not _AMOUNT.fullmatch(text := str(value)):
        return None
    amount = Decimal(text)
    return amount if amount <= COUNT_MAX else None


def milliseconds(seconds: object) -> int | None:
    """Seconds, as a number or as a text, in whole milliseconds."""
    told = money(seconds)
    return None if told is None else count(int((told * 1000).to_integral_value(ROUND_HALF_UP)))


def are_counts(values: Iterable[object]) -> bool:
    """Whether all of `values` are counts written as integers: then none of them is a text, and none needs a walk."""
    return all(type(value) is int and 0 <= value <= COUNT_MAX for value in values)


def first_count(usage: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> int | None:
    """The first of `paths` into `usage` where a count stands."""
    for path in paths:
        value: Any = usage
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if (quantity := count(value)) is not None:
            return quantity
    return None


def word(value: object) -> str | None:
    """`value` if it is a name such as a model or an id: one line of text, cut to `WORD_LENGTH_MAX`."""
    if not isinstance(value, str):
        return None
    if 0 < len(value) <= WORD_LENGTH_MAX and value.isprintable():
        return value
    line = value[:WORD_LENGTH_MAX]
    return "".join(filter(str.isprintable, line)) or None


def numbers(value: object) -> dict[str, Any]:
    """The members of an object that are numbers, or objects with numbers in them: no text, no list."""
    return _numbers(value, USAGE_DEPTH_MAX, [USAGE_MEMBERS_MAX]) if isinstance(value, dict) else {}


def _numbers(members: dict[str, Any], depth: int, room: list[int]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in members.items():
        kind, told = type(value), value
        if kind is dict:
            told = _numbers(value, depth - 1, room) if depth > 0 else None
        elif kind is not float and not (kind is int and -COUNT_MAX <= value <= COUNT_MAX):
            continue
        if told != {} and told is not None and len(key) <= USAGE_WORD_LENGTH_MAX and key.isprintable() and room[0] > 0:
            room[0] -= 1
            kept[key] = told
    return kept


def usage_object(value: object) -> dict[str, Any] | None:
    """A copy of a provider's usage object that can hold no text: long words, deep and large parts are left out."""
    if not isinstance(value, dict) or not value:
        return None
    return _members_without_text(value, USAGE_DEPTH_MAX, [USAGE_MEMBERS_MAX])


def _members_without_text(members: dict[str, Any], depth: int, room: list[int]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in members.items():
        if len(key) <= USAGE_WORD_LENGTH_MAX and key.isprintable() and _may_stay(value, depth, room):
            kept[key] = _without_text(value, depth, room) if isinstance(value, _CONTAINERS) else value
    return kept


def _without_text(value: Any, depth: int, room: list[int]) -> Any:
    if isinstance(value, dict):
        return _members_without_text(value, depth - 1, room)
    if isinstance(value, list):
        return [_without_text(item, depth - 1, room) for item in value if _may_stay(item, depth - 1, room)]
    return value


def _may_stay(value: Any, depth: int, room: list[int]) -> bool:
    """Whether `value` is a number, a short word, or a container that is not too deep; and there is room."""
    room[0] -= 1
    if room[0] < 0:
        return False
    if isinstance(value, int):
        return -COUNT_MAX <= value <= COUNT_MAX
    if isinstance(value, str):
        return len(value) <= USAGE_WORD_LENGTH_MAX and value.isprintable()
    return depth > 0 or not isinstance(value, _CONTAINERS)


def later_wins(earlier: dict[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two cumulative usage objects member by member: the later one wins where it says something."""
    merged = dict(earlier)
    for key, value in later.items():
        before = merged.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[key] = later_wins(before, value)
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
