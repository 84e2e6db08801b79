import json
import tracemalloc

import pytest

from metering.core.dialects import Reading, classify, open_reader
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.windows import (
    HEAD_BYTES,
    KEPT_BYTES_MAX,
    STREAM_END_BYTES,
    STREAM_GRANTED_BYTES_MAX,
    STREAM_KEPT_BYTES_MAX,
    TAIL_BYTES,
    Allowance,
    Windows,
)
from metering.core.usage import UsageSource

FILLER = b"x" * (HEAD_BYTES + 4 * TAIL_BYTES)


def _read(path: str, content_type: str, body: bytes, piece: int = 60_000) -> Reading:
    reader = open_reader(classify("POST", path), status=200, content_type=content_type, content_encoding="")
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader.finish()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize("piece", [1000, TAIL_BYTES, 10_000_000])
def test_the_two_ends_are_kept_exactly(piece: int) -> None:
    body = bytes(range(256)) * 8_000
    windows = Windows()
    for start in range(0, len(body), piece):
        windows.feed(body[start : start + piece])
    kept = windows.kept()
    assert (kept.head, kept.tail) == (body[:HEAD_BYTES], body[-TAIL_BYTES:])
    assert kept.dropped == len(body) - HEAD_BYTES - TAIL_BYTES


def test_a_huge_piece_behind_small_ones_is_cut_to_the_ends() -> None:
    huge = bytes(range(256)) * 4_000
    for small in (b"", b"start" * 10, b"start" * 10_000, huge):
        windows = Windows()
        windows.feed(small)
        windows.feed(huge)
        windows.feed(b"end")
        body, kept = small + huge + b"end", windows.kept()
        assert (kept.head, kept.tail) == (body[:HEAD_BYTES], body[-TAIL_BYTES:])
        assert kept.dropped == len(body) - HEAD_BYTES - TAIL_BYTES


def test_memory_is_bounded_for_pieces_of_a_few_bytes() -> None:
    windows, body = Windows(), b"".join(n.to_bytes(3, "big") for n in range(100_000))
    tracemalloc.start()
    for start in range(0, len(body), 3):
        windows.feed(body[start : start + 3])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = windows.kept()
    assert peak < 4 * KEPT_BYTES_MAX
    assert (kept.head, kept.tail) == (body[:HEAD_BYTES], body[-TAIL_BYTES:])


def test_a_body_that_fits_is_whole() -> None:
    windows = Windows()
    windows.feed(FILLER[: KEPT_BYTES_MAX // 2])
    windows.feed(FILLER[: KEPT_BYTES_MAX // 2])
    kept = windows.kept()
    assert (len(kept.head), kept.tail, kept.dropped) == (KEPT_BYTES_MAX // 2 * 2, b"", 0)


def test_memory_is_bounded_for_200_mb() -> None:
    reader = open_reader(classify("POST", "/v1/chat/completions"), status=200, content_type="", content_encoding="")
    piece = b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n' * 40_000
    tracemalloc.start()
    for _ in range(100):
        reader.feed(piece)
    reader.feed(b'data: {"usage":{"prompt_tokens":5,"completion_tokens":6},"choices":[]}\n\ndata: [DONE]\n\n')
    reading = reader.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * KEPT_BYTES_MAX
    assert reading.usage is not None
    assert (reading.usage.output_tokens, reading.complete) == (6, True)


def test_usage_after_a_huge_answer() -> None:
    content = FILLER + b'\\"}],\\"usage\\":{\\"prompt_tokens\\":99}' + FILLER
    body = b'{"id":"c1","model":"m","choices":[{"message":{"content":"' + content + b'","usage":{"prompt_tokens":7}}}],'
    body += b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"service_tier":"flex"}'
    reading = _read("/v1/chat/completions", "application/json", body)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens) == (3, 4)
    assert (reading.usage_source, reading.complete) == (UsageSource.REPORTED, True)
    assert (reading.response_model, reading.response_id, reading.service_tier) == ("m", "c1", "flex")


def test_usage_before_a_huge_answer() -> None:
    body = b'{"usage":{"prompt_tokens":3,"total_tokens":3},"model":"m","data":["' + FILLER + b'"]}'
    reading = _read("/v1/embeddings", "application/json", body)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.response_model) == (3, "m")


def test_a_usage_object_deeper_in_a_huge_answer_is_not_taken() -> None:
    inner = b'{"usage":{"input_tokens":7,"output_tokens":7}}'
    body = b'{"model":"m","content":[{"input":"' + FILLER + b'"},{"input":' + inner + b"}]}"
    assert _read("/v1/messages", "application/json", body).usage is None


def test_the_last_event_may_be_larger_than_the_windows() -> None:
    response = {"id": "resp_1", "object": "response", "model": "gpt-5", "service_tier": "auto"}
    usage = {"input_tokens": 75, "output_tokens": 12, "total_tokens": 87}
    created = {"type": "response.created", "response": response | {"usage": None}}
    big: dict[str, object] = response | {
        "instructions": FILLER.decode(),
        "output": [],
        "usage": usage,
        "user": None,
        "metadata": {},
    }
    body = b"data: %s\n\ndata: %s\n\n" % (_json(created), _json({"type": "response.completed", "response": big}))
    reading = _read("/v1/responses", "text/event-stream", body)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens, reading.complete) == (75, 12, True)
    assert (reading.response_id, reading.response_model) == ("resp_1", "gpt-5")


def test_the_first_event_may_be_larger_than_the_head() -> None:
    message = {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 8, "output_tokens": 1}}
    start = {"type": "message_start", "message": message | {"padding": FILLER.decode()}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
    body = b"event: a\ndata: %s\n\nevent: b\ndata: %s\n\n" % (_json(start), _json(end))
    reading = _read("/v1/messages", "text/event-stream", body)
    assert reading.usage is not None
    assert reading.usage.output_tokens == 9


def test_ollama_writes_its_counts_after_a_huge_context() -> None:
    head = b'{"model":"m","response":"a","done":false}\n{"model":"m","response":"","done":true,"context":['
    body = head + b"1," * 300_000 + b'1],"prompt_eval_count":26,"eval_count":29}\n'
    reading = _read("/api/generate", "application/x-ndjson", body)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens, reading.response_model) == (26, 29, "m")


@pytest.mark.parametrize("depth", [1, 2])
def test_members_of_the_ends_of_a_document(depth: int) -> None:
    document: object = {"a": 'x"}{', "n": -1.5e3, "o": {"n": 1, "l": [{"n": 2}]}, "t": True, "s": "é\\", "e": {}}
    for _ in range(depth - 1):
        document = {"w": document}
    text = json.dumps(document).encode()
    names = ("n", "o", "t", "s", "e", "missing")
    expected = {"n": -1500.0, "o": {"n": 1, "l": [{"n": 2}]}, "t": True, "s": "é\\", "e": {}}
    assert head_members(text, names, depth) == expected
    assert tail_members(text, names, depth) == expected
    assert "e" not in head_members(text[: -depth - 1], names, depth)
    assert tail_members(text[: -depth - 2], names, depth) == {}


def test_a_quote_that_is_never_closed_ends_the_search() -> None:
    assert head_members(b'{"a":1,"b":"never', ("a", "b")) == {"a": 1}
    assert tail_members(b'"a":1,"b":"never}', ("a", "b")) == {}
    assert tail_members(b'"a":1}}', ("a",)) == {}
    assert tail_members(b'"a":1,"b":{"c":"a"}}', ("a",)) == {"a": 1}
    assert tail_members(b'{"a":1},' * 9 + b'"b":2}', ("a", "b")) == {"b": 2}


FRAME = b'data: {"id":"c1","model":"m","choices":[{"delta":{"content":" word"}}]}\n\n'


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_of_a_stream_only_its_ends_are_kept(end: bytes) -> None:
    """Two hundred streams of a worker must fit into a few megabytes, however long they get."""
    windows, frame = Windows(), FRAME.replace(b"\n", end)
    for _ in range(5_000):
        windows.feed(frame)
    kept = windows.kept()
    assert kept.dropped + len(kept.head) + len(kept.tail) == 5_000 * len(frame)
    assert len(kept.head) + len(kept.tail) <= 2 * STREAM_END_BYTES + len(frame)
    assert (kept.head.startswith(frame), kept.tail.endswith(frame)) == (True, True)


def test_of_a_stream_of_documents_only_its_ends_are_kept() -> None:
    windows, line = Windows(), b'{"message":{"content":"word"},"done":false}\n'
    for _ in range(5_000):
        windows.feed(line)
    assert windows.kept().dropped > 4_000 * len(line)


def test_a_stream_is_bounded_while_it_runs() -> None:
    windows = Windows()
    tracemalloc.start()
    for _ in range(5_000):
        windows.feed(bytes(bytearray(FRAME)))  # no two are the same object
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * STREAM_KEPT_BYTES_MAX


def test_the_last_frames_are_kept_whole_in_a_long_stream() -> None:
    """A response's last event repeats all of its text: usage is read from it only while its beginning is there."""
    windows = Windows()
    last = b'data: {"type":"response.completed","response":{"output":"' + b"y" * (TAIL_BYTES - 2_000) + b'"}}\n\n'
    for _ in range(1_000):
        windows.feed(FRAME)
    for start in range(0, len(last), 1_500):
        windows.feed(last[start : start + 1_500])
    windows.feed(b"data: [DONE]\n\n")
    assert last in windows.kept().tail


def test_the_first_frames_are_kept_whole_in_a_long_stream() -> None:
    """Anthropic tells the input side in the first event, which may be long."""
    windows = Windows()
    first = b'event: message_start\ndata: {"message":"' + b"y" * (2 * STREAM_END_BYTES) + b'"}\n\n'
    windows.feed(first)
    for _ in range(1_000):
        windows.feed(FRAME)
    assert windows.kept().head.startswith(first)


# ── a stream that may have to be counted by its text ──────────────────────────────────────────────────

FRAME = b'data: {"choices":[{"delta":{"content":"words and words and words"}}]}\n\n'


def _fed(allowance: Allowance | None, frames: int) -> Windows:
    windows = Windows(allowance)
    for _ in range(frames):
        windows.feed(FRAME)
    return windows


@pytest.mark.parametrize("frames", [1, 200, 1000, 3000, 20_000])
@pytest.mark.parametrize("granted", [0, 40_000, 10**6])
def test_what_readers_get_does_not_depend_on_what_is_kept_beside(frames: int, granted: int) -> None:
    plain, allowed = _fed(None, frames).kept(), _fed(Allowance(granted), frames).kept()
    if not plain.dropped and allowed.dropped:  # readers of long streams get less than was kept
        assert allowed.head == plain.head[: len(allowed.head)]
        assert plain.head.endswith(allowed.tail)
    else:
        assert allowed.head == plain.head
        # The tail is cut back now and then: its length depends on when.
        assert allowed.tail.endswith(plain.tail) or plain.tail.endswith(allowed.tail)
    assert len(allowed.head) + len(allowed.tail) + allowed.dropped == frames * len(FRAME)


def test_a_stream_is_whole_as_far_as_an_allowance_goes() -> None:
    allowance = Allowance(100_000)
    windows = _fed(allowance, 90_000 // len(FRAME))
    assert windows.whole().dropped == 0
    assert allowance.left < 20_000
    second = _fed(allowance, 90_000 // len(FRAME))  # there is nothing left for this one
    assert second.whole().dropped > 50_000
    del windows
    assert allowance.left == 100_000
    assert _fed(Allowance(10**6), 3 * STREAM_GRANTED_BYTES_MAX // len(FRAME)).whole().dropped > STREAM_GRANTED_BYTES_MAX
    assert len(second.whole().head) + len(second.whole().tail) + second.whole().dropped == 90_000 // len(FRAME) * len(
        FRAME
    )
