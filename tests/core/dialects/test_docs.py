"""docs/dialects.md says what the code does."""

from pathlib import Path

import pytest

from metering.core.dialects import DIALECTS
from metering.core.dialects.counts import USAGE_DEPTH_MAX, USAGE_MEMBERS_MAX, USAGE_WORD_LENGTH_MAX
from metering.core.dialects.coverage import cover, markdown
from metering.core.dialects.decoding import DECODED_BYTES_MAX, RATIO_FROM_BYTES, RATIO_MAX, SLICE_BYTES
from metering.core.dialects.websocket import PREFIX_BYTES
from metering.core.dialects.windows import (
    HEAD_BYTES,
    KEPT_BYTES_MAX,
    STREAM_END_BYTES,
    STREAM_END_FRAMES,
    TAIL_BYTES,
)
from metering.core.usage import UsageSource

DOCS = (Path(__file__).parents[3] / "docs" / "dialects.md").read_text()
READERS_SOURCES = (UsageSource.REPORTED, UsageSource.HEADER, UsageSource.PARTIAL, UsageSource.UNKNOWN, UsageSource.NONE)


def test_the_table_of_dialects_is_the_codes_own() -> None:
    """If not: `metering dialects list --output markdown` prints the new one."""
    assert markdown(cover(DIALECTS.values())) in DOCS


@pytest.mark.parametrize("source", [source.value for source in READERS_SOURCES])
def test_every_source_has_a_row(source: str) -> None:
    assert f"\n| `{source}` |" in DOCS


@pytest.mark.parametrize(
    "bound",
    [
        f"first {HEAD_BYTES >> 10} KiB and last {TAIL_BYTES >> 10} KiB; up to {KEPT_BYTES_MAX >> 10} KiB",
        f"first {STREAM_END_BYTES >> 10} KiB and last {STREAM_END_BYTES >> 10} KiB, or",
        f"its first and last {STREAM_END_FRAMES} frames: up to {HEAD_BYTES >> 10} KiB and {TAIL_BYTES >> 10} KiB",
        f"{SLICE_BYTES >> 10} KiB of gzip",
        f"{DECODED_BYTES_MAX >> 20} MiB decoded, or more than {RATIO_FROM_BYTES >> 20} MiB at over {RATIO_MAX}:1",
        f"judged by its first {PREFIX_BYTES} bytes",
        f"inflates to more than {RATIO_MAX}:1 of what came, from {RATIO_FROM_BYTES >> 20} MiB on",
        f"{USAGE_MEMBERS_MAX} members, {USAGE_DEPTH_MAX} levels, words of {USAGE_WORD_LENGTH_MAX} characters",
    ],
)
def test_bounds_are_the_codes_own(bound: str) -> None:
    assert bound in DOCS
