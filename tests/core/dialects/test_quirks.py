"""The table of quirks: each row is needed, and what it says is read."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from metering.core.dialects.quirk_table import QUIRKS, REPORTED_COST, Header, Place, Row, Surplus
from metering.core.dialects.quirks import TABLE, Quirks, read_usage
from metering.core.usage import Usage, disjoint_meters

RECORDINGS = Path(__file__).parents[2] / "recordings"


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


def _all_it_tells(table: Quirks, shown_by: str) -> tuple[Any, ...]:
    """What `table` makes of the usage object and the headers of one of our recordings."""
    recording = json.loads((RECORDINGS / f"{shown_by}.json").read_text())
    body = json.loads(recording["response_body"])
    provider, raw = recording["provider"], body["usage"]
    usage, cost = table.read(raw, provider, body["model"]), table.cost(raw)
    told = table.read_headers(recording["response_headers"], provider, usage, cost)
    return (*told, table.variant(raw))


@pytest.mark.parametrize("row", QUIRKS, ids=lambda row: f"{type(row).__name__} at {row.shown_by}")
def test_every_row_is_needed(row: Row) -> None:
    without = Quirks(other for other in QUIRKS if other is not row)
    assert _all_it_tells(without, row.shown_by) != _all_it_tells(TABLE, row.shown_by)
    assert row.seen_at


def test_rows_name_fields_of_usage() -> None:
    fields = set(Usage.__struct_fields__)
    named = {row.field for row in QUIRKS if isinstance(row, Place | Header)}
    parts = {part for row in QUIRKS if isinstance(row, Surplus) for part in row.input_parts + row.output_parts}
    assert named | parts <= fields | {REPORTED_COST}


@pytest.mark.parametrize(
    ("raw", "cost"),
    [
        ({"cost": 0.0076509169000000005}, "0.0076509169000000005"),
        ({"cost": 1.2e-08}, "0.000000012"),
        ({"cost": 3}, "3"),
        ({"cost": 0}, "0"),
        ({"cost": {"total_cost": 0.00504, "request_cost": 0.005}}, "0.00504"),
        ({"cost_in_usd_ticks": 160708500}, "0.01607085"),
        ({"cost_in_usd_ticks": 1}, "0.0000000001"),
        ({"cost_in_usd_ticks": 0}, None),
        ({"cost": None}, None),
        ({"cost": True}, None),
        ({"cost": -1}, None),
        ({"cost": "free"}, None),
        ({"cost": 2**60}, None),
        ({"cost": {"total_cost": {}}}, None),
    ],
)
def test_the_providers_own_cost_is_exact(raw: dict[str, Any], cost: str | None) -> None:
    assert TABLE.cost(raw) == (None if cost is None else Decimal(cost))


@pytest.mark.parametrize(
    ("provider", "headers", "told"),
    [
        ("litellm-proxy", {"x-litellm-response-cost": "4.25e-05"}, (None, Decimal("0.0000425"))),
        ("openai", {"x-litellm-response-cost": "4.25e-05"}, (None, None)),
        ("my-litellm", {"x-litellm-response-cost": "None"}, (None, None)),
        ("Fireworks", {"fireworks-cached-prompt-tokens": "75"}, (75, None)),
        ("fireworks", {"fireworks-cached-prompt-tokens": "-75"}, (None, None)),
        ("fireworks", {"fireworks-cached-prompt-tokens": "9" * 40}, (None, None)),
    ],
)
def test_headers_tell_at_the_providers_that_send_them(
    provider: str, headers: dict[str, str], told: tuple[int | None, Decimal | None]
) -> None:
    usage, cost = TABLE.read_headers(headers, provider, Usage(input_tokens=100), None)
    assert usage is not None
    assert (usage.cache_read_input_tokens, cost) == told


def test_the_body_goes_before_a_header() -> None:
    headers = {"x-litellm-response-cost": "4", "fireworks-cached-prompt-tokens": "75"}
    usage = Usage(input_tokens=100, cache_read_input_tokens=3)
    for provider in ("litellm", "fireworks"):
        assert TABLE.read_headers(headers, provider, usage, Decimal(0)) == (usage, Decimal(0))


def test_tools_that_are_counted_apart_are_not_counted_again() -> None:
    raw = {
        "prompt_tokens": 5,
        "num_server_side_tools_used": 2,
        "server_side_tool_usage_details": {"web_search_calls": 3},
    }
    usage = read_usage(raw, "xai", "grok")
    assert usage is not None
    assert (usage.web_search_requests, usage.tool_requests) == (3, 0)


def test_more_cached_than_read_is_kept_and_clamped_when_it_is_charged() -> None:
    usage = read_usage({"prompt_tokens": 24, "prompt_tokens_details": {"cached_tokens": 161}}, "azure", "grok-4")
    assert usage is not None
    assert usage.cache_read_input_tokens == 161
    assert sum(disjoint_meters(usage).values()) == 24
