"""docs/estimates.md shows the table of the code, and our own recordings are always measured."""

import re
from pathlib import Path

from benchmarks.estimates.__main__ import OWN, make_estimator
from benchmarks.estimates.report import HEAD, OPENAI, OPENAI_BAR, OTHERS, OTHERS_BAR, make_report, to_markdown
from benchmarks.estimates.samples import read_samples
from metering.core.texts.families import FAMILIES, OTHER
from metering.sidecar.estimate.settings import EstimateConfig

DOCS = (Path(__file__).parents[2] / "docs" / "estimates.md").read_text()
TABLES = DOCS.partition("<!-- python -m benchmarks.estimates -->")[2].partition("<!-- end -->")[0]


def _rows(title: str) -> dict[str, list[str]]:
    block = TABLES.partition(HEAD.format(title))[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


def test_the_table_of_the_page_meets_the_bars() -> None:
    bars = _rows("bar")
    assert float(bars[OPENAI][1].rstrip(" %")) <= OPENAI_BAR * 100
    assert float(bars[OTHERS][1].rstrip(" %")) <= OTHERS_BAR * 100


def test_the_table_of_the_page_is_of_the_families_there_are() -> None:
    assert set(_rows("family")) <= {family.name for family in (*FAMILIES, OTHER)}
    assert len(_rows("provider")) > 20


def test_the_bounds_of_the_page_are_the_codes_own() -> None:
    config = EstimateConfig()
    assert f'| `kept_bytes` | `"{config.kept_bytes >> 20}MiB"` |' in DOCS
    assert f'| {config.waiting_calls}, `"{config.waiting_bytes >> 20}MiB"` |' in DOCS
    assert f"| `wait_seconds` | {config.wait_seconds} |" in DOCS


def test_our_own_recordings_are_measured() -> None:
    samples, excluded = read_samples(OWN, make_estimator())
    assert len(samples) + len(excluded) > 20
    errors = [sample.written_error for sample in samples if sample.written_error is not None]
    assert errors
    written = to_markdown(make_report(samples, excluded))
    assert written.count(HEAD.format("family")) == 1
    assert re.search(r"^\| openai \| \d+ \|", written, re.MULTILINE)
