from typing import Any

import pytest

from metering.core.dialects.quirks import COUNTS, OVERRIDES, SURPLUS, read_usage
from metering.core.usage import Usage, disjoint_meters


def _details(**counts: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": counts.pop("reasoning", 0)}, **counts}


SPLIT = {"prompt_tokens": 5, "completion_tokens": 3}


@pytest.mark.parametrize(
    ("raw", "provider", "model", "totals"),
    [
        (SPLIT | {"total_tokens": 8} | _details(reasoning=2), "", "", (5, 3)),
        (SPLIT | {"total_tokens": 10} | _details(reasoning=2), "", "", (5, 5)),
        (SPLIT | _details(reasoning=2), "", "", (5, 3)),
        (SPLIT | {"total_tokens": 20}, "openai", "gpt-4o", (5, 3)),
        (SPLIT | {"total_tokens": 20}, "my-google", "", (5, 15)),
        (SPLIT | {"total_tokens": 20}, "x", "gemini-2.5-pro", (5, 15)),
        (SPLIT | {"total_tokens": 2}, "google", "", (5, 3)),
        (
            SPLIT | {"total_tokens": 8} | _details(reasoning=9),
            "vercel",
            "google/x",
            (5, 12),
        ),
        (
            SPLIT | {"total_tokens": 8} | _details(reasoning=9),
            "vercel",
            "openai/x",
            (5, 3),
        ),
        (
            SPLIT | {"total_tokens": 21, "cache_read_input_tokens": 13},
            "gateway",
            "claude",
            (18, 3),
        ),
        ({"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}, "", "", (5, 3)),
        ({"total_tokens": 8}, "voyage", "", (8, None)),
        ({"prompt_tokens": 8, "total_tokens": 8}, "", "", (8, None)),
        ({"prompt_tokens": 8, "total_tokens": 11}, "", "", (8, 3)),
        ({"completion_tokens": 3, "total_tokens": 11}, "", "", (8, 3)),
        ({"prompt_tokens": 8.0, "completion_tokens": 2}, "", "", (8, 2)),
    ],
)
def test_totals(raw: dict[str, Any], provider: str, model: str, totals: tuple[int, int | None]) -> None:
    usage = read_usage(raw, provider, model)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == totals


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"cost": 1},
        {"prompt_tokens": None},
        {"prompt_tokens": -5, "completion_tokens": True, "total_tokens": "9"},
        {"prompt_tokens": 2**80},
        {"prompt_tokens": 1.5},
    ],
)
def test_no_counts_are_no_usage(raw: dict[str, Any]) -> None:
    assert read_usage(raw, "", "") is None


def test_the_first_place_with_a_count_is_taken() -> None:
    raw = {
        "prompt_tokens": 50,
        "num_cached_tokens": 3,
        "prompt_cache_hit_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": 4},
        "audio_prompt_tokens": 9,
    }
    told = Usage(input_tokens=50, cache_read_input_tokens=2, audio_input_tokens=4)
    assert read_usage(raw, "", "") == told
    assert read_usage(dict(reversed(raw.items())), "", "") == told


@pytest.mark.parametrize(("field", "path"), [(field, path) for field, paths in COUNTS.items() for path in paths])
def test_every_place_is_read(field: str, path: tuple[str, ...]) -> None:
    raw: dict[str, Any] = {"prompt_tokens": 90, "completion_tokens": 80} if len(path) > 1 else {"total_tokens": 7}
    inner: dict[str, Any] = raw
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = 7
    usage = read_usage(raw, "", "")
    assert usage is not None
    assert getattr(usage, field) == 7


def test_more_cached_than_read_is_kept_and_clamped_when_it_is_charged() -> None:
    usage = read_usage({"prompt_tokens": 24, "prompt_tokens_details": {"cached_tokens": 161}}, "azure", "grok-4")
    assert usage is not None
    assert usage.cache_read_input_tokens == 161
    assert sum(disjoint_meters(usage).values()) == 24


def test_every_row_says_where_it_was_seen() -> None:
    assert all(rule.seen_at for rule in (*SURPLUS, *OVERRIDES))
    fields = set(Usage.__struct_fields__)
    assert set(COUNTS) <= fields
    assert all(part in fields for rule in SURPLUS for part in rule.input_parts + rule.output_parts)
