"""Anthropic messages of several passes and what else decides their price; tools, pages and moderations of others."""

import json
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, read_request, read_whole
from metering.core.usage import Usage, UsageSource

TOP = {"input_tokens": 220, "output_tokens": 8, "service_tier": "standard"}
COMPACTION = {"type": "compaction", "input_tokens": 100, "cache_read_input_tokens": 55_096, "output_tokens": 83}
ADVICE = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2518, "output_tokens": 22}
OWN = {"type": "message", "input_tokens": 220, "output_tokens": 8}


def read(path: str, answer: dict[str, Any], provider: str = "") -> Reading:
    return read_whole(
        classify("POST", path),
        status=200,
        content_type="application/json",
        content_encoding="",
        body=json.dumps(answer).encode(),
        provider=provider,
    )


def message(**usage: Any) -> Reading:
    return read("/v1/messages", {"id": "msg_1", "model": "claude-sonnet-5", "usage": TOP | usage})


def test_passes_that_the_top_level_leaves_out_are_rows_of_their_own() -> None:
    reading = message(iterations=[COMPACTION, OWN, ADVICE])
    assert reading.usage == Usage(input_tokens=220, output_tokens=8)
    compaction, advice = reading.others
    assert compaction.usage == Usage(input_tokens=55_196, output_tokens=83, cache_read_input_tokens=55_096)
    assert (compaction.response_model, advice.response_model) == ("claude-sonnet-5", "claude-opus-4-8")
    assert advice.usage == Usage(input_tokens=2518, output_tokens=22)
    assert {(each.response_id, each.service_tier, each.once) for each in reading.others} == {
        ("msg_1", "standard", False)
    }
    assert advice.raw_usage == ADVICE


def test_many_passes_are_told_though_few_are_kept_raw() -> None:
    assert len(message(iterations=[ADVICE, OWN] * 60).others) == 60 - 10  # the first hundred are looked at


@pytest.mark.parametrize("odd", [None, 7, {}, [None, 7, {}, {"type": []}, {"type": "compaction"}], [OWN]])
def test_odd_passes_cost_only_what_they_would_have_told(odd: object) -> None:
    reading = message(iterations=odd)
    assert (reading.usage, reading.others) == (Usage(input_tokens=220, output_tokens=8), ())


def test_speed_and_place_decide_the_price() -> None:
    assert (message(speed="fast").service_tier, message(speed="standard").service_tier) == ("fast", "standard")
    assert (message(inference_geo="us").variant, message(inference_geo="global").variant) == ("us", None)
    assert message(inference_geo=["us"]).variant is None


def test_code_runs_are_counted() -> None:
    tools = {"web_search_requests": 0, "code_execution_requests": 2}
    assert message(server_tool_use=tools).usage == Usage(
        input_tokens=220, output_tokens=8, web_search_requests=0, code_execution_requests=2
    )


def test_items_of_a_response_are_counted_by_their_tool() -> None:
    kinds = ("web_search_call", "file_search_call", "file_search_call", "code_interpreter_call")
    more = ("image_generation_call", "mcp_call", "mcp_list_tools", "function_call", "computer_call", "message")
    output = [{"type": kind} for kind in kinds + more]
    reading = read("/v1/responses", {"output": output, "usage": {"input_tokens": 1, "output_tokens": 1}})
    assert reading.usage == Usage(
        input_tokens=1,
        output_tokens=1,
        web_search_requests=1,
        file_search_requests=2,
        code_execution_requests=1,
        output_images=1,
        tool_requests=1,
    )


def test_a_count_of_all_tools_is_told_apart_by_the_items() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "num_server_side_tools_used": 5}
    output = [{"type": "web_search_call"}, {"type": "web_search_call"}, {"type": "code_interpreter_call"}]
    told = read("/v1/responses", {"output": output, "usage": usage}, "xai").usage
    assert told is not None
    assert (told.web_search_requests, told.code_execution_requests, told.tool_requests) == (2, 1, 2)


def test_annotated_pages_have_their_own_price() -> None:
    ocr = classify("POST", "/v1/ocr")
    assert read_request(ocr, b'{"model":"m","bbox_annotation_format":{"type":"json_schema"}}').variant == "annotated"
    assert read_request(ocr, b'{"model":"m","document_annotation_format":null}').variant is None


def test_a_free_moderation_is_free_and_a_paid_one_is_not() -> None:
    results: dict[str, Any] = {"id": "modr-1", "model": "omni", "results": [{"flagged": False}]}
    assert read("/v1/moderations", results).usage_source is UsageSource.NONE
    paid = read("/v1/moderations", results | {"usage": {"prompt_tokens": 7, "total_tokens": 7}})
    assert (paid.usage, paid.usage_source) == (Usage(input_tokens=7), UsageSource.REPORTED)
