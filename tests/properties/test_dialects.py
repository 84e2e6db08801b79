"""Properties of the readers: any chunking reads the same, nothing raises, nothing of the content leaves."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metering.core.dialects import MEANINGS, Operation, Reading, anthropic, gemini_usage, open_reader, read_request
from metering.core.dialects.counts import COUNT_MAX, count, usage_object
from metering.core.dialects.plain import PlainChat, PlainMessage, PlainResponse, plain_message, plain_usage
from metering.core.dialects.quirks import read_usage
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
        *("meta", "billed_units", "tokens", "image_tokens", "metrics", "predict_time", "metadata", "duration"),
        *("results", "generated_token_count", "input_token_count", "details", "meta_info", "stats", "result"),
        *("tokens_evaluated", "tokens_predicted", "parameters", "batch_size", "artifacts", "outputs", "images"),
        *("cost", "total_cost", "cost_in_usd_ticks", "num_server_side_tools_used", "search_context_size"),
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
    if cut.usage and whole.usage and recording.dialect != "gemini.stream_generate":  # there a count may go down
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


def _usage_objects(*structs: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Usage objects of the plain members, mostly with counts in them, now and then with anything else."""
    details = [
        name for struct in structs for name in struct.__struct_fields__ if name.endswith(("details", "creation"))
    ]
    names = [name for struct in structs for name in struct.__struct_fields__ if name not in details]
    counts = st.integers(0, 9) | st.sampled_from([0, COUNT_MAX, None])
    values = counts | counts | counts | st.sampled_from(["standard", "us", "odd", True, 7.0, -1, COUNT_MAX + 1, [], {}])
    inside = st.dictionaries(st.sampled_from(INSIDE), values, max_size=4) | st.none()
    members = dict.fromkeys(names, values) | dict.fromkeys([*details, "server_tool_use"], inside)
    return st.fixed_dictionaries({}, optional=members)


INSIDE = [
    *("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens", "reasoning_tokens"),
    *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "thinking_tokens", "web_search_requests", "x"),
]
NUMBERS = st.integers(0, 6)


@st.composite
def _plain_objects(draw: st.DrawFn, names: tuple[str, str, str, str]) -> dict[str, Any]:
    """Plain OpenAI usage objects whose total is about the sum of both sides."""
    read_name, written_name, read_details, written_details = names
    read, written = draw(NUMBERS), draw(NUMBERS | st.none())
    usage: dict[str, Any] = {read_name: read, written_name: written}
    usage |= draw(st.fixed_dictionaries({}, optional={"total_tokens": st.integers(0, 15) | st.none()}))
    parts = {
        read_details: st.dictionaries(st.sampled_from(INSIDE[:5]), NUMBERS),
        written_details: st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens"]), NUMBERS | st.none()),
    }
    return usage | draw(st.fixed_dictionaries({}, optional=parts))


CHAT_NAMES = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
RESPONSE_NAMES = ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
OPENAI_OBJECTS = _plain_objects(CHAT_NAMES) | _plain_objects(RESPONSE_NAMES)
PROVIDERS, MODELS = st.sampled_from(["openai", "vercel", "google", ""]), st.sampled_from(["gpt", "google/gemini", ""])


@settings(max_examples=300)
@given(OPENAI_OBJECTS | _usage_objects(PlainChat) | _usage_objects(PlainResponse), PROVIDERS, MODELS)
def test_a_plain_openai_usage_object_reads_as_the_general_way_reads_it(
    raw: dict[str, Any], provider: str, model: str
) -> None:
    if (plain := plain_usage(raw)) is not None:
        assert read_usage(raw, provider, model, plain) == read_usage(raw, provider, model)
        assert plain.says_something() == any(count(value) for value in raw.values())
        assert usage_object(raw) == raw


@settings(max_examples=300)
@given(_usage_objects(PlainMessage))
def test_a_plain_anthropic_usage_object_reads_as_the_general_way_reads_it(raw: dict[str, Any]) -> None:
    if (plain := plain_message(raw)) is not None:
        assert plain.usage() == anthropic.read_any(raw)
        assert usage_object(raw) == raw


@given(OPENAI_OBJECTS)
def test_ordinary_objects_are_plain(raw: dict[str, Any]) -> None:
    assert plain_usage(raw) is not None


GOOGLES = [name for name in gemini_usage.Metadata.__struct_fields__ if name.endswith("Count")]
SHARES = st.lists(
    st.fixed_dictionaries({}, optional={"modality": st.sampled_from(["TEXT", "AUDIO", 2, 9]), "tokenCount": NUMBERS}),
    max_size=3,
)
METADATA = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(GOOGLES, NUMBERS | st.none())
    | dict.fromkeys(["promptTokensDetails", "promptTokenDetails", "cacheTokensDetails"], SHARES)
    | {"trafficType": st.sampled_from(["ON_DEMAND", 1, 2, 7]), "serviceTier": st.sampled_from(["flex", None])},
)


@given(METADATA)
def test_plain_metadata_of_googles_reads_as_the_general_way_reads_it(raw: dict[str, Any]) -> None:
    plain, kept = gemini_usage.read_metadata(raw)
    assert kept is raw
    assert plain.usage() == gemini_usage.read_any(raw).usage()
    assert plain.tier == gemini_usage.read_any(raw).tier
    assert (usage_object(raw) or {}) == raw
