"""Properties of the readers: any chunking reads the same, nothing raises, nothing of the content leaves."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metering.core.dialects import MEANINGS, Operation, Reading, open_reader, read_request
from metering.core.usage import disjoint_meters
from metering.jobs.check_dialects import ENCODINGS, Recording, encode

RECORDINGS = Path(__file__).parents[1] / "recordings"
STORED = [msgspec.json.decode(path.read_bytes(), type=Recording) for path in sorted(RECORDINGS.rglob("*.json"))]
OPERATIONS = [Operation(dialect, "chat", consumes=True) for dialect in sorted(MEANINGS)]

NAMES = st.sampled_from(
    [
        *("usage", "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"),
        *("prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens", "cache_creation"),
        *("cache_read_input_tokens", "model", "id", "choices", "error", "response", "message", "delta", "type"),
        *("done", "done_reason", "prompt_eval_count", "eval_count", "timings", "prompt_n", "predicted_n", "x_groq"),
        *("output", "status", "service_tier", "stop_reason", "background"),
    ]
)
WORDS = st.sampled_from(
    ["response.completed", "message_start", "message_delta", "message_stop", "error", "stop", "queued", "load"]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)  # JSON has no others
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | WORDS | st.text(max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=8)


def _read(operation: Operation, chunks: list[bytes], encoding: str = "", provider: str = "") -> Reading:
    reader = open_reader(
        operation, status=200, content_type="text/event-stream", content_encoding=encoding, provider=provider
    )
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


@given(st.sampled_from(STORED), st.lists(st.integers(0, 4000), max_size=30), st.sampled_from(ENCODINGS))
def test_any_chunking_reads_the_same(recording: Recording, cuts: list[int], encoding: str) -> None:
    encoded = encode(recording.body, encoding)
    bounds = [0, *sorted(min(cut, len(encoded)) for cut in cuts), len(encoded)]
    chunks = [encoded[start:end] for start, end in pairwise(bounds)]
    whole = _read(recording.operation, [recording.body], "", recording.provider)
    assert _read(recording.operation, chunks, encoding, recording.provider) == whole


@given(st.sampled_from(STORED), st.integers(0, 4000))
def test_any_cut_reads_no_more_than_the_whole(recording: Recording, end: int) -> None:
    whole = _read(recording.operation, [recording.body], "", recording.provider)
    cut = _read(recording.operation, [recording.body[:end]], "", recording.provider)
    if cut.usage and whole.usage:
        assert (cut.usage.output_tokens or 0) <= (whole.usage.output_tokens or 0)
        assert (cut.usage.input_tokens or 0) <= (whole.usage.input_tokens or 0)
    assert whole.usage or not cut.usage


def _check_any(operation: Operation, body: bytes) -> None:
    for encoding in ("", "gzip", "br", "zstd", "deflate"):
        reading = _read(operation, [body], encoding)
        if reading.usage:
            assert all(quantity > 0 for quantity in disjoint_meters(reading.usage).values())
        msgspec.json.encode(reading)
    read_request(operation, body)
    read_request(operation, body[:10], body[10:])


@given(st.sampled_from(OPERATIONS), st.binary(max_size=300))
@example(OPERATIONS[0], b'{"type":"message_start","message":7}')
def test_random_bytes_break_nothing(operation: Operation, body: bytes) -> None:
    _check_any(operation, body)


@given(
    st.sampled_from(OPERATIONS), st.lists(OBJECTS, max_size=4), st.sampled_from(["data: %s\n\n", "%s\n", "[%s]", "%s"])
)
def test_random_json_breaks_nothing(operation: Operation, objects: list[dict[str, Any]], frame: str) -> None:
    _check_any(operation, "".join(frame % json.dumps(each) for each in objects).encode())


@settings(max_examples=50)
@given(st.sampled_from(STORED), st.dictionaries(st.text(min_size=1, max_size=8).map("x-{}".format), VALUES, max_size=3))
def test_unknown_members_change_nothing(recording: Recording, unknown: dict[str, Any]) -> None:
    try:
        document = json.loads(recording.body)
    except ValueError:
        return
    if not isinstance(document, dict):
        return
    known = _read(recording.operation, [recording.body], "", recording.provider)
    more = json.dumps(unknown | document | {"x": unknown}).encode()
    assert _read(recording.operation, [more], "", recording.provider) == known


SECRET = "the quick brown fox keeps a secret that nobody may store " * 3


@given(st.sampled_from(OPERATIONS), OBJECTS, NAMES, NAMES)
def test_no_text_of_an_answer_leaves_a_reader(
    operation: Operation, document: dict[str, Any], outer: str, inner: str
) -> None:
    planted = document | {
        outer: {inner: SECRET, "deep": [{inner: SECRET}]},
        "content": SECRET,
        "usage": {inner: SECRET},
    }
    told = msgspec.to_builtins(_read(operation, [json.dumps(planted).encode()]).raw_usage)
    assert SECRET not in json.dumps(told)
