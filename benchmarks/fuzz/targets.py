"""What is fuzzed. Each target takes bytes and raises `AssertionError`, or whatever the code raised, if a promise broke.

The first bytes of an input choose (dialect, encoding, where to cut), the rest is what a stranger sent.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec

from metering.core.dialects import (
    DIALECTS,
    MEANINGS,
    SESSIONS,
    Reading,
    classify,
    fill_in,
    open_reader,
    open_session,
    read_request,
    read_whole,
)
from metering.core.dialects.counts import USAGE_WORD_LENGTH_MAX, WORD_LENGTH_MAX
from metering.core.usage import INPUT_METERS, OUTPUT_METERS, disjoint_meters
from metering.jobs.check_dialects import ENCODINGS, Recording, encode
from metering.jobs.reframe import frame, read_messages

RECORDINGS = Path(__file__).parents[2] / "tests" / "recordings"
NAMES, SESSION_NAMES = sorted(MEANINGS), sorted(SESSIONS)
EXTENSIONS = ("", "permessage-deflate", "permessage-deflate; server_no_context_takeover")
PROVIDERS = ("", "openai", "google", "vercel", "mistral", "cohere", "bedrock", "xai")
TYPES = ("", "application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream")
CHOICES = 5  # bytes of an input that choose


def read_answer(data: bytes) -> None:
    """An answer of any dialect: never an exception, cuts change nothing, meters add up, no text gets out."""
    dialect, encoding, provider, content_type, seed = data[:CHOICES].ljust(CHOICES, b"\0")
    operation = DIALECTS[NAMES[dialect % len(NAMES)]].operation
    facts = {
        "status": 200,
        "content_type": TYPES[content_type % len(TYPES)],
        "content_encoding": ENCODINGS[encoding % len(ENCODINGS)] if encoding < 64 else "",
        "provider": PROVIDERS[provider % len(PROVIDERS)],
        "headers": {},
    }
    body = data[CHOICES:]
    whole = read_whole(operation, **facts, body=body)  # type: ignore[arg-type]  # a dict of them all
    reader = open_reader(operation, **facts)  # type: ignore[arg-type]
    for piece in _cut(body, seed):
        reader.feed(piece)
    assert reader.finish() == whole, "cut elsewhere it reads differently"
    check_reading(fill_in(whole, read_request(operation, body)))


def read_coded_answer(data: bytes) -> None:
    """The same bytes, properly encoded: what is read must not depend on the encoding."""
    dialect, encoding, seed = data[:3].ljust(3, b"\0")
    operation = DIALECTS[NAMES[dialect % len(NAMES)]].operation
    name, body = ENCODINGS[encoding % len(ENCODINGS)], data[3:]
    readings = []
    for coding in ("", name):
        reader = open_reader(operation, status=200, content_type="", content_encoding=coding)
        for piece in _cut(encode(body, coding), seed):
            reader.feed(piece)
        readings.append(reader.finish())
    assert readings[0] == readings[1], "encoded it reads differently"


def read_sessions(data: bytes) -> None:
    """What a realtime server sends: frames as they are, or a message a line in frames of ours."""
    dialect, agreed, framed, seed = data[:4].ljust(4, b"\0")
    wire = data[4:]
    if framed < 128:
        wire = b"".join(map(frame, wire.split(b"\n")))
    operation = DIALECTS[SESSION_NAMES[dialect % len(SESSION_NAMES)]].operation
    readings = []
    for pieces in ([wire], _cut(wire, seed)):
        extensions = EXTENSIONS[agreed % len(EXTENSIONS)]
        session = open_session(operation, extensions=extensions, told=lambda: None)
        assert session is not None
        for piece in pieces:
            session.feed(piece)
            session.feed_client(piece)
        check_reading(session.so_far())
        readings.append((session.asked_model, session.finish()))
    assert readings[0] == readings[1], "cut elsewhere it reads differently"
    check_reading(readings[0][1])


def read_asked(data: bytes) -> None:
    """A request of any dialect, whole and with its middle lost."""
    dialect, at = data[:2].ljust(2, b"\0")
    operation = DIALECTS[NAMES[dialect % len(NAMES)]].operation
    body = data[2:]
    for facts in (read_request(operation, body), read_request(operation, body[:at], body[at:])):
        assert facts.model is None or (len(facts.model) <= WORD_LENGTH_MAX and facts.model.isprintable())
        msgspec.json.encode(facts)


def classify_path(data: bytes) -> None:
    """Any method, path and provider."""
    method, _, rest = data.decode("latin-1").partition(" ")
    provider, _, path = rest.partition(" ")
    operation = classify(method, path, provider)
    assert operation.dialect in DIALECTS or operation.dialect == "unknown"


def check_reading(reading: Reading) -> None:
    """What must hold of any reading."""
    msgspec.json.encode(reading)
    for name in (reading.response_model, reading.response_id, reading.service_tier, reading.variant):
        assert name is None or (len(name) <= WORD_LENGTH_MAX and name.isprintable()), "a name that is none"
    _check_words(reading.raw_usage)
    if usage := reading.usage:
        assert all(count is None or count >= 0 for count in msgspec.structs.astuple(usage)), "a negative count"
        meters = disjoint_meters(usage)
        assert all(quantity > 0 for quantity in meters.values()), "a meter of nothing"
        assert sum(meters.get(meter, 0) for meter in INPUT_METERS) == (usage.input_tokens or 0)
        assert sum(meters.get(meter, 0) for meter in OUTPUT_METERS) == (usage.output_tokens or 0)
    for other in reading.others:
        check_reading(other)


def _check_words(value: object) -> None:
    if isinstance(value, str):
        assert len(value) <= USAGE_WORD_LENGTH_MAX, "a text in the usage object"
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_words(key)
            _check_words(part)
    elif isinstance(value, list):
        for part in value:
            _check_words(part)


def _cut(body: bytes, seed: int) -> list[bytes]:
    dice = Random(seed)
    at = sorted(dice.choices(range(len(body) + 1), k=dice.randint(0, 8)))
    return [body[start:end] for start, end in pairwise([0, *at, len(body)])]


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "answers": read_answer,
    "encodings": read_coded_answer,
    "sessions": read_sessions,
    "requests": read_asked,
    "paths": classify_path,
}


def seeds(target: str) -> list[bytes]:
    """Inputs to start from: our own recordings, as the target takes them."""
    stored = [msgspec.json.decode(path.read_bytes(), type=Recording) for path in sorted(RECORDINGS.rglob("*.json"))]
    if target == "paths":
        methods = [f"{recording.method} {recording.provider} {recording.url}" for recording in stored]
        return [text.encode("latin-1", "replace") for text in methods]
    if target == "sessions":
        lines = {
            (SESSION_NAMES.index(each.dialect), b"\n".join(message.text for message in read_messages(each.body)))
            for each in stored
            if each.dialect in SESSIONS
        }
        return [bytes((number, 0, 0, 7)) + text for number, text in sorted(lines)]
    numbers = {name: number for number, name in enumerate(NAMES)}
    known = [(numbers[name], each) for each in stored if (name := each.operation.dialect) in numbers]
    if target == "requests":
        return [bytes((number, 40)) + msgspec.json.encode(each.request_body) for number, each in known]
    choices = bytes(2) if target == "encodings" else bytes((64, 0, 0, 7))
    return [bytes((number,)) + choices + each.body for number, each in known]
