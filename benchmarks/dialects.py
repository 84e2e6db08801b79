"""What reading an answer costs: CPU µs of `finish()` once at its end, and of `feed()` per chunk.

    python -m benchmarks.dialects --output json|table [--quick]

Bars: a 1 KB JSON answer under 15 µs, a stream of 100 chunks under 60 µs, one of 100 binary frames, whose CRCs are
checked, under 150 µs: room for a noisy machine. Each figure is the median of several rounds, so that one interruption
by another process does not decide.
"""

import argparse
import gzip
import json
import statistics
import time
from base64 import b64encode
from collections.abc import Callable
from zlib import crc32

from metering.core.dialects import Operation, Reader, classify, open_reader
from metering.core.dialects.framing import EVENT_STREAM_TYPE

Event = dict[str, object]

CHUNKS = 100
JSON_BAR_US, STREAM_BAR_US, FRAMES_BAR_US = 15.0, 60.0, 150.0

CHAT_USAGE = {
    "prompt_tokens": 812,
    "completion_tokens": 100,
    "total_tokens": 912,
    "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 40,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
# What a gateway adds sends the object the general way; it has no bar.
ODD_USAGE = CHAT_USAGE | {"queue_time": 0.02, "cost": 0.0012}
RESPONSE_USAGE = {
    "input_tokens": 812,
    "input_tokens_details": {"cached_tokens": 512},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 40},
    "total_tokens": 912,
}
MESSAGE_USAGE = {
    "input_tokens": 300,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 512,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 100,
    "service_tier": "standard",
}
GEMINI_USAGE = {
    "promptTokenCount": 812,
    "candidatesTokenCount": 60,
    "totalTokenCount": 912,
    "cachedContentTokenCount": 512,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 812}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 512}],
    "thoughtsTokenCount": 40,
    "serviceTier": "standard",
}
CONVERSE_USAGE = {
    "inputTokens": 300,
    "outputTokens": 100,
    "totalTokens": 912,
    "cacheReadInputTokens": 512,
    "cacheReadInputTokenCount": 512,
    "cacheWriteInputTokens": 0,
    "cacheWriteInputTokenCount": 0,
    "serverToolUsage": {},
}
OLLAMA_USAGE = {"total_duration": 9, "prompt_eval_count": 812, "prompt_eval_duration": 5, "eval_count": 100}
TEXT = "Forty-two is the answer. " * 20


def sse(*objects: object, done: bool = False) -> list[bytes]:
    """Each object as one SSE event."""
    return [b"data: %s\n\n" % _json(each) for each in objects] + [b"data: [DONE]\n\n"] * done


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chat_chunk(text: str, usage: object = None) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    names = {"id": "chatcmpl-CkU3zTnJvVJ5b5Hq5H", "object": "chat.completion.chunk", "created": 1764000000}
    return names | {"model": "gpt-4o-2024-08-06", "service_tier": "default", "choices": [choice], "usage": usage}


def _chat_stream(*, continuous: bool) -> list[bytes]:
    usage = CHAT_USAGE if continuous else None
    last = _chat_chunk("", CHAT_USAGE) | {"choices": []}
    return sse(*(_chat_chunk(f" word{n}", usage) for n in range(CHUNKS - 1)), last, done=True)


def _responses_stream() -> list[bytes]:
    response: Event = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5",
        "status": "completed",
        "output": [],
        "usage": None,
    }
    deltas = [
        {"type": "response.output_text.delta", "sequence_number": n, "item_id": "msg_1", "delta": f" word{n}"}
        for n in range(CHUNKS - 2)
    ]
    created = {"type": "response.created", "response": response | {"status": "in_progress"}}
    completed = {"type": "response.completed", "response": response | {"usage": RESPONSE_USAGE}}
    return sse(created, *deltas, completed)


def _message_stream() -> list[bytes]:
    message = {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": MESSAGE_USAGE}
    start: Event = {"type": "message_start", "message": message}
    deltas: list[Event] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" word{n}"}}
        for n in range(CHUNKS - 3)
    ]
    end: Event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": MESSAGE_USAGE}
    events: list[Event] = [start, *deltas, end, {"type": "message_stop"}]
    return [b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), _json(event)) for event in events]


def _ollama_stream() -> list[bytes]:
    names = {"model": "smollm2", "created_at": "2026-11-01T00:00:00Z"}
    lines = [names | {"message": {"role": "assistant", "content": f" w{n}"}, "done": False} for n in range(CHUNKS - 1)]
    return [_json(line) + b"\n" for line in [*lines, names | {"done": True, "done_reason": "stop"} | OLLAMA_USAGE]]


def _gemini_answer(text: str, **more: object) -> Event:
    content = {"parts": [{"text": text}], "role": "model"}
    candidate: Event = {"content": content, "index": 0, **more}
    names = {"modelVersion": "gemini-2.5-flash", "responseId": "jNcEavSuHfWA7_UP9"}
    return {"candidates": [candidate], "usageMetadata": GEMINI_USAGE, **names}


def _gemini_answers() -> list[Event]:
    return [*(_gemini_answer(f" word{n}") for n in range(CHUNKS - 1)), _gemini_answer("", finishReason="STOP")]


def _gemini_array() -> list[bytes]:
    """As it comes without `alt=sse`."""
    texts = [json.dumps(each, indent=2).encode() for each in _gemini_answers()]
    return [b"[" + texts[0], *(b"\n,\r\n" + text for text in texts[1:]), b"\n]"]


def _frame(kind: str, payload: Event) -> bytes:
    """One frame of an AWS event stream."""
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    pairs = ((name.encode(), value.encode()) for name, value in named.items())
    headers = b"".join(len(name).to_bytes(1) + name + b"\x07" + len(value).to_bytes(2) + value for name, value in pairs)
    text = _json(payload)
    prelude = (16 + len(headers) + len(text)).to_bytes(4) + len(headers).to_bytes(4)
    body = prelude + crc32(prelude).to_bytes(4) + headers + text
    return body + crc32(body).to_bytes(4)


def _converse_stream() -> list[bytes]:
    deltas = [
        _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f" word{n}"}, "p": "abcdefghijkl"})
        for n in range(CHUNKS - 3)
    ]
    ending = _frame("messageStop", {"stopReason": "end_turn", "p": "ab"})
    metadata: Event = {"metrics": {"latencyMs": 951}, "usage": CONVERSE_USAGE, "p": "abcdef"}
    return [_frame("messageStart", {"role": "assistant", "p": "abc"}), *deltas, ending, _frame("metadata", metadata)]


def _invoke_stream() -> list[bytes]:
    """Claude's events, wrapped."""
    texts = [event.partition(b"data: ")[2].strip() for event in _message_stream()]
    metrics = {"inputTokenCount": 300, "outputTokenCount": 100, "invocationLatency": 9, "firstByteLatency": 3}
    texts[-1] = _json({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics})
    return [_frame("chunk", {"bytes": b64encode(text).decode(), "p": "abcdefghijkl"}) for text in texts]


def _cohere_answers() -> dict[str, tuple[Operation, str, str, list[bytes]]]:
    """One of the dialects that are data, as a body and as both its streams."""
    units = {"billed_units": {"input_tokens": 300, "output_tokens": 100}, "cached_tokens": 512}
    usage = units | {"tokens": {"input_tokens": 812, "output_tokens": 100}}
    body = {"id": "c-1", "message": {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}, "usage": usage}
    deltas: list[Event] = [
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": f" word{n}"}}}}
        for n in range(CHUNKS - 2)
    ]
    end: Event = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}
    lines = [{"is_finished": False, "event_type": "text-generation", "text": f" word{n}"} for n in range(CHUNKS - 1)]
    last = {"is_finished": True, "response": {"response_id": "r-1", "text": TEXT, "meta": usage}}
    v1, v2 = classify("POST", "/v1/chat", "cohere"), classify("POST", "/v2/chat", "cohere")
    return {
        "cohere.chat_v2 json": (v2, "application/json", "", [_json(body)]),
        "cohere.chat_v2 stream": (v2, "text/event-stream", "", sse({"id": "c-1"}, *deltas, end, done=True)),
        "cohere.chat_v1 stream": (v1, "application/stream+json", "", [_json(x) + b"\n" for x in [*lines, last]]),
    }


def _answers() -> dict[str, tuple[Operation, str, str, list[bytes]]]:
    """Name → operation, content type, content-encoding, chunks."""
    chat, responses = classify("POST", "/v1/chat/completions"), classify("POST", "/v1/responses")
    messages, ollama = classify("POST", "/v1/messages"), classify("POST", "/api/chat")
    gemini = classify("POST", "/v1beta/models/gemini-2.5-flash:generateContent")
    gemini_stream = classify("POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent")
    converse, converse_stream, invoke_stream = (
        classify("POST", f"/model/anthropic.claude-haiku-4-5/{verb}")
        for verb in ("converse", "converse-stream", "invoke-with-response-stream")
    )
    converse_body: Event = {
        "metrics": {"latencyMs": 951},
        "output": {"message": {"content": [{"text": TEXT}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": CONVERSE_USAGE,
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    names = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "service_tier": "default"}
    chat_body = _json(names | {"choices": [choice], "usage": CHAT_USAGE})
    odd_body = _json(names | {"choices": [choice], "usage": ODD_USAGE})
    item = {"type": "message", "content": [{"type": "output_text", "text": TEXT}]}
    response = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": [item]}
    message = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": TEXT}],
    }
    ollama_body = {"model": "smollm2", "message": {"content": TEXT}, "done": True} | OLLAMA_USAGE
    images, results = classify("POST", "/v1/images/generations"), classify("GET", "/v1/files/file-1/content")
    pictures = {"created": 1, "data": [{"url": "https://pictures.invalid/1.png"}], "usage": RESPONSE_USAGE}
    many = {"type": "compaction", "input_tokens": 55196, "output_tokens": 125}
    compacted = message | {"usage": MESSAGE_USAGE | {"iterations": [many, many | {"type": "message"}]}}
    result = {"custom_id": "r-1", "response": {"status_code": 200, "body": names | {"usage": CHAT_USAGE}}}
    stream, ndjson, body = "text/event-stream", "application/x-ndjson", "application/json"
    return {
        "openai.chat json": (chat, body, "", [chat_body]),
        "openai.chat json, gzip": (chat, body, "gzip", [gzip.compress(chat_body)]),
        "openai.chat json, odd usage": (chat, body, "", [odd_body]),
        "openai.responses json": (responses, body, "", [_json(response | {"usage": RESPONSE_USAGE})]),
        "anthropic.messages json": (messages, body, "", [_json(message | {"usage": MESSAGE_USAGE})]),
        "anthropic.messages json, compacted": (messages, body, "", [_json(compacted)]),
        "openai.images json": (images, body, "", [_json(pictures)]),
        "openai.files.content, 100 lines": (results, ndjson, "", [_json(result) + b"\n"] * CHUNKS),
        "ollama.chat json": (ollama, body, "", [_json(ollama_body)]),
        "gemini.generate json": (gemini, body, "", [_json(_gemini_answer(TEXT, finishReason="STOP"))]),
        "bedrock.converse json": (converse, body, "", [_json(converse_body)]),
        "openai.chat stream": (chat, stream, "", _chat_stream(continuous=False)),
        "openai.chat stream, usage in every chunk": (chat, stream, "", _chat_stream(continuous=True)),
        "openai.responses stream": (responses, stream, "", _responses_stream()),
        "anthropic.messages stream": (messages, stream, "", _message_stream()),
        "ollama.chat stream": (ollama, ndjson, "", _ollama_stream()),
        "bedrock.converse_stream stream": (converse_stream, EVENT_STREAM_TYPE, "", _converse_stream()),
        "bedrock.invoke_stream stream": (invoke_stream, EVENT_STREAM_TYPE, "", _invoke_stream()),
        "gemini.stream_generate stream": (gemini_stream, stream, "", sse(*_gemini_answers())),
        "gemini.stream_generate stream, an array": (gemini_stream, body, "", _gemini_array()),
        **_cohere_answers(),
    }


def _cpu_us(call: Callable[[], object]) -> float:
    start = time.process_time_ns()
    call()
    return (time.process_time_ns() - start) / 1000


def _measure(
    operation: Operation, content_type: str, encoding: str, chunks: list[bytes], rounds: int
) -> tuple[float, float]:
    """Median CPU µs of one `finish()` and of one `feed()`. Readers of a round are timed together."""
    together = 100

    def feed_all(readers: list[Reader]) -> None:
        for reader in readers:
            feed = reader.feed
            for chunk in chunks:
                feed(chunk)

    finishes, feeds = [], []
    for _ in range(rounds):
        readers = [
            open_reader(operation, status=200, content_type=content_type, content_encoding=encoding)
            for _ in range(together)
        ]
        feeds.append(_cpu_us(lambda readers=readers: feed_all(readers)) / together / len(chunks))  # type: ignore[misc]
        finishes.append(_cpu_us(lambda readers=readers: [r.finish() for r in readers]) / together)  # type: ignore[misc]
    return statistics.median(finishes), statistics.median(feeds)


def measure(rounds: int) -> list[dict[str, object]]:
    """One row an answer: its size, what finishing and feeding cost, its bar and whether it is met."""
    rows: list[dict[str, object]] = []
    for name, (operation, content_type, encoding, chunks) in _answers().items():
        finish_us, feed_us = _measure(operation, content_type, encoding, chunks, rounds)
        bar = JSON_BAR_US if name.endswith("json") else None if name.endswith(("gzip", "odd usage")) else STREAM_BAR_US
        if content_type == EVENT_STREAM_TYPE:
            bar = FRAMES_BAR_US
        rows.append(
            {
                "answer": name,
                "chunks": len(chunks),
                "bytes": sum(map(len, chunks)),
                "finish_cpu_us": round(finish_us, 1),
                "feed_cpu_us_per_chunk": round(feed_us, 3),
                "bar_us": bar,
                "met": None if bar is None else finish_us < bar,
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    rows = measure(rounds=5 if arguments.quick else 50)
    if arguments.output == "json":
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]  # type: ignore[index]
        bar = f"bar {row['bar_us']:.0f}" if row["bar_us"] else ""
        print(
            f"{row['answer']:42} {row['chunks']:4} chunks {row['bytes']:6} B  finish {row['finish_cpu_us']:6} µs "
            f"{bar:8} {verdict:7} feed {row['feed_cpu_us_per_chunk']} µs a chunk"
        )


if __name__ == "__main__":
    main()
