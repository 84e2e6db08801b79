"""Which models a price is for, as data: a `Match` can be stored, compared, hashed and compiled.

The shape is that of the public price lists (`equals`, `starts_with`, `ends_with`, `contains`, `regex`, `or`, `and`),
so a list keeps its own words. Model names are compared without regard to case.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from metering.errors import InputError

Predicate = Callable[[str], bool]
WORDS = ("equals", "starts_with", "ends_with", "contains", "regex", "any_of", "all_of")
_COMPACT_DATE = re.compile(r"-(20[0-9]{2})(0[1-9]|1[0-2])([0-2][0-9]|3[01])$")


class Match(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"any_of": "or", "all_of": "and"},
):
    """Exactly one of these is set. `any_of` and `all_of` nest."""

    equals: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    regex: str | None = None
    any_of: tuple["Match", ...] = ()
    all_of: tuple["Match", ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty or a double clause: it would match everything or surprise."""
        if sum(bool(getattr(self, word)) for word in WORDS) != 1:
            raise InputError("a model match is exactly one of equals, starts_with, ends_with, contains, regex, or, and")


def compile_match(match: Match) -> Predicate:
    """A predicate over lower-cased model names. `InputError` for an unusable regular expression."""
    if match.any_of:
        parts = [compile_match(part) for part in match.any_of]
        return lambda name: any(part(name) for part in parts)
    if match.all_of:
        parts = [compile_match(part) for part in match.all_of]
        return lambda name: all(part(name) for part in parts)
    if match.regex:
        return _searches(match.regex)
    if match.equals:
        return match.equals.lower().__eq__
    start, end, inside = (text and text.lower() for text in (match.starts_with, match.ends_with, match.contains))
    return lambda name: (
        (not start or name.startswith(start)) and (not end or name.endswith(end)) and (not inside or inside in name)
    )


@lru_cache(maxsize=16_384)
def folded(match: Match) -> Match:
    """The same for every spelling of `match` that differs only in case, where case makes no difference."""
    texts = {word: text.lower() for word in WORDS[:4] if (text := getattr(match, word))}
    parts = {word: tuple(map(folded, getattr(match, word))) for word in WORDS[5:]}
    return msgspec.structs.replace(match, **texts, **parts)


def dashed_date(name: str) -> str:
    """Gateways write `gpt-5.2-20251211` for what its maker calls `gpt-5.2-2025-12-11`; this gives the latter."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)


def to_words(match: Match) -> str:
    """`match` for a person: `gpt-4o`, `gpt-4o…`, `…-mini`, `a | b`."""
    if match.any_of:
        return " | ".join(to_words(part) for part in match.any_of)
    if match.all_of:
        return " & ".join(to_words(part) for part in match.all_of)
    return (
        match.equals
        or (match.starts_with and f"{match.starts_with}…")
        or (match.ends_with and f"…{match.ends_with}")
        or (match.contains and f"…{match.contains}…")
        or f"/{match.regex}/"
    )


def _searches(pattern: str) -> Predicate:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise InputError(f"model regex {pattern!r} is not a regular expression: {error}") from None
    return lambda name: compiled.search(name) is not None
