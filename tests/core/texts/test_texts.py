"""Texts are found in every dialect's JSON: what was read, what was written, and what each piece is."""

from typing import Any

import msgspec
import pytest

from metering.core.dialects.windows import Kept
from metering.core.texts import Kind, Texts, payloads, read_texts, written_texts

CALL = {"function": {"name": "look", "arguments": '{"at":1}'}}
# An answer of one piece, or the frames of a stream → text, reasoning, names of calls, their arguments
WRITTEN: dict[str, tuple[list[Any], tuple[str, str, str, str]]] = {
    "openai chat": (
        [{"choices": [{"message": {"content": "hi", "reasoning_content": "hm", "tool_calls": [CALL]}}]}],
        ("hi", "hm", "look", '{"at":1}'),
    ),
    "openai chat, streamed": (
        [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "h"}}]},
            {"choices": [{"index": 0, "delta": {"content": "i"}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"name": "look"}}]}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": '{"a'}}]}}]},
            {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": '":1}'}}]}}]},
        ],
        ("hi", "", "look", '{"a":1}'),
    ),
    "a server that tells everything twice": (
        [
            {
                "choices": [
                    {
                        "text": "hi",
                        "delta": {"content": "hi", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]},
                        "message": {"content": "hi"},
                    }
                ]
            }
        ],
        ("hi", "hm", "", ""),
    ),
    "openai completions": ([{"choices": [{"text": "hi"}]}], ("hi", "", "", "")),
    "mistral": (
        [
            {
                "choices": [
                    {"delta": {"content": [{"thinking": [{"text": "hm"}], "type": "thinking"}, {"text": "hi"}]}}
                ]
            }
        ],
        ("hi", "hm", "", ""),
    ),
    "openai responses": (
        [
            {
                "output": [
                    {"type": "reasoning", "content": [{"text": "hm"}], "summary": [{"text": "not its own words"}]},
                    {"type": "message", "content": [{"text": "hi"}]},
                    {"type": "function_call", "name": "look", "arguments": "{}"},
                ]
            }
        ],
        ("hi", "hm", "look", "{}"),
    ),
    "openai responses, streamed": (
        [
            {"type": "response.output_text.delta", "output_index": 0, "delta": "h"},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "i"},
            {"type": "response.output_text.done", "output_index": 0, "text": "hi"},
            {"type": "response.output_item.added", "output_index": 1, "item": {"name": "look"}},
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
            {"type": "response.completed", "response": {"output": [{"content": [{"text": "hi"}]}]}},
        ],
        ("hi", "", "look", "{}"),
    ),
    "anthropic": (
        [
            {
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "hi"},
                    {"type": "tool_use", "name": "look", "input": {"at": 1}},
                ]
            }
        ],
        ("hi", "hm", "look", '{"at":1}'),
    ),
    "anthropic, streamed": (
        [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "look"}},
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": '{"a'}},
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": '":1}'}},
            {"type": "content_block_delta", "index": 1, "delta": {"text": "hi"}},
            {"type": "content_block_delta", "index": 2, "delta": {"thinking": "hm"}},
        ],
        ("hi", "hm", "look", '{"a":1}'),
    ),
    "gemini": (
        [
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"text": "a summary", "thought": True},
                                {"text": "hi"},
                                {"functionCall": {"name": "look", "args": {"at": 1}}},
                            ]
                        }
                    }
                ]
            }
        ],
        ("hi", "", "look", '{"at":1}'),
    ),
    "bedrock converse": (
        [
            {
                "output": {
                    "message": {
                        "content": [
                            {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                            {"text": "hi"},
                            {"toolUse": {"name": "look", "input": {}}},
                            {"citationsContent": {"content": [{"text": " there"}]}},
                        ]
                    }
                }
            }
        ],
        ("hi there", "hm", "look", ""),
    ),
    "bedrock converse, streamed": (
        [
            {"contentBlockIndex": 0, "delta": {"text": "hi"}},
            {"contentBlockIndex": 1, "start": {"toolUse": {"name": "look"}}},
            {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}},
        ],
        ("hi", "", "look", "{}"),
    ),
    "ollama": (
        [{"message": {"content": "h", "thinking": "hm"}}, {"message": {"content": "i", "tool_calls": [CALL]}}],
        ("hi", "hm", "look", '{"at":1}'),
    ),
    "ollama generate": ([{"response": "h", "thinking": "hm"}, {"response": "i"}], ("hi", "hm", "", "")),
    "cohere": (
        [{"message": {"content": [{"text": "hi"}], "tool_calls": [CALL]}}],
        ("hi", "", "look", '{"at":1}'),
    ),
    "cohere, streamed": (
        [
            {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hi"}}}},
            {"index": 1, "delta": {"message": {"tool_calls": {"function": {"name": "look"}}}}},
        ],
        ("hi", "", "look", ""),
    ),
    "cohere v1": (
        [{"event_type": "text-generation", "text": "hi"}, {"event_type": "stream-end", "response": {"text": "hi"}}],
        ("hi", "", "", ""),
    ),
    "watsonx": ([{"results": [{"generated_text": "hi"}]}], ("hi", "", "", "")),
}  # fmt: skip


def _all(texts: Texts, *kinds: Kind) -> str:
    return "".join(texts.of(*kinds))


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_written(name: str) -> None:
    values, expected = WRITTEN[name]
    texts = written_texts(values)
    assert (_all(texts, Kind.TEXT), _all(texts, Kind.REASONING), _all(texts, Kind.CALL)) == expected[:3]
    assert _all(texts, Kind.ARGUMENTS) == expected[3]


READ: dict[str, tuple[Any, str, int]] = {  # request → its texts, and how many messages they are
    "chat": ({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "brief"}]}, "bebrief", 2),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "hi", 1),
    "anthropic": ({"system": "be", "messages": [{"role": "user", "content": "brief"}]}, "briefbe", 1),
    "a tool's result": (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"text": "7"}]}]}]},
        '[{"text":"7"}]',
        1,
    ),
    "gemini": (
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "systemInstruction": {"parts": [{"text": "be"}]}},
        "hibe",
        1,
    ),
    "responses": ({"instructions": "be", "input": "brief"}, "bebrief", 2),
    "embeddings": ({"input": ["a", "b"]}, "ab", 0),
    "prompt": ({"prompt": "hi"}, "hi", 0),
    "cohere v1": ({"message": "hi", "chat_history": [{"role": "USER", "message": "ho"}]}, "hiho", 1),
    "rerank": ({"query": "a", "documents": ["b", {"text": "c"}]}, "abc", 0),
}


@pytest.mark.parametrize("name", READ)
def test_what_was_read(name: str) -> None:
    request, expected, messages = READ[name]
    texts = read_texts(request, responses=name == "responses")
    assert (_all(texts, Kind.TEXT, Kind.RESULT), texts.messages) == (expected, messages)


def test_what_is_more_than_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    texts = read_texts(
        {
            "messages": [{"role": "user", "content": [image]}],
            "tools": [{"function": {"name": "look"}}],
            "response_format": {"json_schema": {"schema": {"type": "object"}}},
        }
    )
    assert texts.objects(Kind.IMAGE) == [image["image_url"]]
    assert texts.objects(Kind.TOOL) == [{"function": {"name": "look"}}]
    assert texts.schemas() == [{"type": "object"}]
    assert read_texts({"prompt": "hi", "format": "json"}).schemas() == []  # Ollama's word for any JSON


def test_token_ids_stand_for_themselves() -> None:
    assert read_texts({"input": [1, 2, 3]}).objects(Kind.IDS) == [[1, 2, 3]]
    assert read_texts({"input": ["a"]}).objects(Kind.IDS) == []
    assert read_texts({"input": []}).objects(Kind.IDS) == []


@pytest.mark.parametrize("request_", [
    {"previous_response_id": "r", "input": "go on"},
    {"messages": [{"role": "user", "content": [{"type": "document", "source": {"data": "AA=="}}]}]},
    {"contents": [{"parts": [{"fileData": {"fileUri": "x"}}]}]},
])  # fmt: skip
def test_what_nobody_can_count_is_known(request_: Any) -> None:
    assert read_texts(request_).objects(Kind.DOCUMENT)


@pytest.mark.parametrize("value", [None, 7, "text", [], {}, {"choices": None}, {"choices": [None, 3]}, {"delta": "x"}])
def test_anything_may_come(value: Any) -> None:
    assert not written_texts([value])
    assert not read_texts(value).of(*Kind)


DOCUMENT = msgspec.json.encode({"choices": []})


@pytest.mark.parametrize(("kept", "content_type", "expected"), [
    (Kept(DOCUMENT, b"", 0), "application/json", [{"choices": []}]),
    (Kept(b'[{"a":1},{"a":2}]', b"", 0), "application/json", [{"a": 1}, {"a": 2}]),
    (Kept(b'[{"a":1}\n,\r\n{"a":2}]', b"", 0), "application/json", [{"a": 1}, {"a": 2}]),
    (Kept(b'{"a":1}\n{"a":2}\n{"a"', b"", 0), "application/x-ndjson", [{"a": 1}, {"a": 2}]),
    (Kept(b'data: {"a":1}\n\ndata: [DONE]\n\n', b"", 0), "text/event-stream", [{"a": 1}]),
    (Kept(b'data: {"a":1}\n\ndata: {"a', b'b":2}\n\ndata: {"a":3}\n\n', 9), "text/event-stream", [{"a": 1}, {"a": 3}]),
    (Kept(b"<html>", b"", 0), "text/html", []),
])  # fmt: skip
def test_every_value_of_an_answer(kept: Kept, content_type: str, expected: list[Any]) -> None:
    found = [value for value in payloads(kept, content_type) if isinstance(value, dict)]
    assert found == expected
