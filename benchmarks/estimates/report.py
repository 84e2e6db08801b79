"""The table: errors by family and by provider, of the half of the recordings that no factor was fitted on."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from statistics import median
from typing import Any

import msgspec

from benchmarks.estimates.samples import Excluded, Sample

OPENAI_BAR, OTHERS_BAR = 0.02, 0.10
OPENAI, OTHERS = "OpenAI's models", "all others"
HEAD = "| {} | output: measured | median | p90 | fitted on | median | input: measured | median | p90 |"
RULE = "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Errors as parts of the true count, None where nothing was measured."""

    name: str
    measured: int  # recordings of the half that nothing was fitted on
    written_median: float | None
    written_p90: float | None
    fitted: int  # recordings of the other half
    fitted_median: float | None
    read: int
    read_median: float | None
    read_p90: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    bars: list[Row]
    met: dict[str, bool]
    families: list[Row]
    providers: list[Row]
    excluded: dict[str, int]  # why → recordings
    uncounted: int  # recordings that we refuse to estimate


def make_report(samples: Sequence[Sample], excluded: Iterable[Excluded]) -> Report:
    """Sum up."""
    bars = _rows(samples, lambda sample: OPENAI if _is_openai(sample) else OTHERS)
    bounds = {OPENAI: OPENAI_BAR, OTHERS: OTHERS_BAR}
    return Report(
        bars=bars,
        met={row.name: row.written_median is not None and row.written_median <= bounds[row.name] for row in bars},
        families=_rows(samples, lambda sample: sample.family.name),
        providers=_rows(samples, lambda sample: sample.provider),
        excluded=dict(Counter(each.why for each in excluded).most_common()),
        uncounted=sum(sample.written_error is None and sample.read_error is None for sample in samples),
    )


def to_markdown(report: Report) -> str:
    """The tables of docs/estimates.md."""
    parts = []
    for title, rows in (("bar", report.bars), ("family", report.families), ("provider", report.providers)):
        parts += ["\n".join([HEAD.format(title), RULE, *map(_line, rows)])]
    parts.append("\n".join(f"- {amount} recordings: {why}" for why, amount in report.excluded.items()))
    return "\n\n".join(parts)


def _rows(samples: Iterable[Sample], name: Callable[[Sample], str]) -> list[Row]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(name(sample), []).append(sample)
    return [_row(key, group) for key, group in sorted(groups.items(), key=lambda item: item[0])]


def _row(name: str, samples: list[Sample]) -> Row:
    measured = [sample for sample in samples if not sample.fitted]
    written = _errors(sample.written_error for sample in measured)
    fitted = _errors(sample.written_error for sample in samples if sample.fitted)
    read = _errors(sample.read_error for sample in measured)
    return Row(
        name=name,
        measured=len(written),
        written_median=median(written) if written else None,
        written_p90=_p90(written),
        fitted=len(fitted),
        fitted_median=median(fitted) if fitted else None,
        read=len(read),
        read_median=median(read) if read else None,
        read_p90=_p90(read),
    )


def _errors(errors: Iterable[float | None]) -> list[float]:
    return sorted(error for error in errors if error is not None)


def _p90(errors: list[float]) -> float | None:
    return errors[ceil(0.9 * len(errors)) - 1] if errors else None


def _is_openai(sample: Sample) -> bool:
    return sample.family.exact and sample.family.name != "gpt-oss"


def _line(row: Row) -> str:
    return "| " + " | ".join(map(_cell, msgspec.structs.astuple(row))) + " |"


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value * 100:.1f} %" if isinstance(value, float) else str(value)
