"""Factors and overheads of the families, fitted on one half of the recordings: least relative error, absolute values.

Whole numbers only, found by trying: each member alone, then all again until nothing gets better.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

from msgspec.structs import replace

from benchmarks.estimates.samples import Sample, miss
from metering.core.texts import Kind
from metering.core.texts.counting import Count, count_read, count_written
from metering.core.texts.families import Family

Moves = Sequence[dict[str, Iterable[int]]]
STARTS = (1050, 1200)
ENOUGH = 4  # samples that a member plays a part in, else it stays as it is for all
# Members that make up for each other are tried together.
WRITTEN: Moves = (
    {"permille": range(900, 1800, 10), "answer": range(16)},
    {"response": range(-4, 8)},
    {"schema": range(8)},
    {"thought": range(16)},
    {"call": range(-8, 80), "member": range(16)},
    {"calls": range(-8, 80)},
)
READ: Moves = (
    {"message": range(12)},
    {"request": (*range(60), *range(60, 1600, 10))},
    {"tools": range(0, 800, 5)},
    {"tool": range(0, 60, 2)},
)
Miss = Callable[[Sample, Family], float]


def fit(samples: Sequence[Sample], count: dict[str, Count]) -> dict[str, dict[str, int]]:
    """Family → its fitted members. `count` counts by vocabulary."""
    found = {}
    for family in {sample.family.name: sample.family for sample in samples}.values():
        cached = _cached(count[family.vocabulary])
        own = [sample for sample in samples if sample.family.name == family.name and sample.fitted]
        written = [sample for sample in own if sample.told_written]
        read = [sample for sample in own if sample.told_read and not sample.asked.objects(Kind.IMAGE)]
        best = family
        members: dict[str, int] = {}
        for known, moves, missed in ((written, WRITTEN, _miss_written(cached)), (read, READ, _miss_read(cached))):
            best = _fit(known, best, moves, missed)
            members |= {name: getattr(best, name) for move in moves for name in move}
        found[family.name] = members
    return found


def _fit(samples: Sequence[Sample], family: Family, moves: Moves, missed: Miss) -> Family:
    """The best that is found from several starts: what is best of one member depends on the others."""
    found = []
    moves = [move for move in moves if _concerned(samples, move) >= ENOUGH]
    names = [name for move in moves for name in move if name != "permille"]
    fits_factor = "permille" in (moves[0] if moves else ()) and not family.exact
    for permille in STARTS if fits_factor else (family.permille,):
        best = replace(family, permille=permille, **dict.fromkeys(names, 0))
        least, before = sum(missed(sample, best) for sample in samples), 0.0
        while least != before:
            before = least
            for move in moves:
                tried = {name: values for name, values in move.items() if fits_factor or name != "permille"}
                for values in product(*tried.values()):
                    other = replace(best, **dict(zip(tried, values, strict=True)))
                    if (error := sum(missed(sample, other) for sample in samples)) < least - 1e-9:
                        best, least = other, error
        found.append((least, permille, best))
    return min(found, key=lambda each: each[:2])[2]


def _concerned(samples: Sequence[Sample], move: dict[str, Iterable[int]]) -> int:
    """How many samples say something about these members."""
    if "call" in move or "calls" in move:
        wanted = (1,) if "call" in move else range(2, 100)
        return sum(len(sample.texts.of(Kind.CALL)) in wanted for sample in samples)
    if "schema" in move:
        return sum(bool(sample.asked.schemas()) for sample in samples)
    if "thought" in move:
        return sum(bool(sample.texts.of(Kind.REASONING)) for sample in samples)
    if "response" in move:
        return sum(sample.responses for sample in samples)
    if "tools" in move or "tool" in move:
        return sum(bool(sample.asked.objects(Kind.TOOL)) for sample in samples)
    return len(samples)


def _miss_written(count: Count) -> Miss:
    def missed(sample: Sample, family: Family) -> float:
        schema = bool(sample.asked.schemas())
        ours = count_written(sample.texts, family, count, responses=sample.responses, schema=schema)
        return miss(ours.tokens, sample.seen(ours.reasoning))

    return missed


def _miss_read(count: Count) -> Miss:
    def missed(sample: Sample, family: Family) -> float:
        read = count_read(sample.asked, family, count)
        return 0.0 if read is None else miss(read.tokens, sample.told_read or 0)

    return missed


def _cached(count: Count) -> Count:
    found: dict[str, int] = {}

    def cached(text: str) -> int:
        if text not in found:
            found[text] = count(text)
        return found[text]

    return cached
