"""Replay recorded exchanges through the readers and compare with an independent reading of each.

A recording is a JSON file with `provider`, `method`, `url`, `status`, `response_headers`, the body (as text in
`response_body` or in `response_body_b64`), `expected_usage` and, if it matters, `expected_source`. The reader is
chosen as the sidecar chooses it, from method and URL; the recording's own label is only compared. Each body is read
whole, then cut at random places and under other content-encodings; every reading must be the same.

Of a WebSocket session messages were recorded and no URL, so there the label chooses the dialect. They are put into
frames anew, each time in another way.
"""

import base64
import binascii
import gzip
import random
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import urlsplit

import brotli  # type: ignore[import-untyped]  # ships no types
import msgspec
import zstandard

from metering.core.dialects import (
    MEANINGS,
    SESSIONS,
    Operation,
    Reading,
    classify,
    fill_in,
    open_reader,
    open_session,
    read_request,
    read_whole,
)
from metering.core.usage import UsageSource
from metering.errors import InputError
from metering.jobs.compare_usage import Difference, compare, not_compared
from metering.jobs.reframe import Framer, Message, frame, read_messages

Verdict = Literal["equal", "different", "ambiguous", "unsupported", "error"]
ENCODINGS = ("", "gzip", "deflate", "br", "zstd")


class Recording(msgspec.Struct, frozen=True):
    """One recorded exchange, as much of it as is needed."""

    provider: str
    dialect: str  # what whoever recorded it calls it
    method: str
    url: str
    status: int | None
    expected_usage: dict[str, Any] | None
    response_body: str = ""
    response_body_b64: str = ""
    expected_source: UsageSource | None = None
    response_headers: dict[str, Any] = {}
    request_body: Any = None
    expected_ambiguous: bool = False
    streamed: bool = False

    @property
    def body(self) -> bytes:
        """The body as the server meant it: content-encoding undone."""
        return base64.b64decode(self.response_body_b64, validate=True) or self.response_body.encode()

    @property
    def operation(self) -> Operation:
        """What the exchange is, as the sidecar sees it."""
        if self.dialect in SESSIONS:
            return Operation(self.dialect, "chat", consumes=True)
        return classify(self.method, urlsplit(self.url).path, self.provider)


class CheckedFile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of one recording."""

    file: str
    verdict: Verdict
    dialect: str = "unknown"  # as classified
    label: str = "unknown"  # as recorded
    differences: list[Difference] = []
    expected: dict[str, Any] | None = None
    reading: Reading | None = None
    problem: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The whole check. `files` lists those that are not simply equal or unsupported."""

    directory: str
    cuts: int
    seed: int
    checked: int
    equal: int
    different: int
    ambiguous: int
    unsupported: int
    errors: int
    dialects: dict[str, dict[str, int]]  # classified dialect → verdict → files
    unsupported_labels: dict[str, int]
    label_disagreements: dict[str, int]  # "label → classified" → files
    not_compared: dict[str, int]  # expected names that our usage has no field for → files
    files: list[CheckedFile]


def check_recordings(directory: Path, *, cuts: int = 5, seed: int = 0) -> Check:
    """Check every `*.json` below `directory`. `InputError` if there is none."""
    paths = sorted(directory.rglob("*.json"))
    if not paths:
        raise InputError(f"no recordings in {directory}: name a folder with *.json recordings in it or below it")
    checked = [check_file(path, str(path.relative_to(directory)), cuts=cuts, seed=seed) for path in paths]
    return _sum_up(str(directory), cuts, seed, checked)


def check_file(path: Path, name: str, *, cuts: int, seed: int) -> CheckedFile:
    """Check one recording. What is wrong with the file itself becomes a problem, never an exception."""
    try:
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        body = recording.body
        operation = recording.operation
    except (OSError, msgspec.DecodeError, binascii.Error, ValueError) as error:
        return CheckedFile(file=name, verdict="error", problem=f"not a recording that can be used: {error}")
    try:
        return _check(recording, operation, body, name, cuts, seed)
    except Exception as error:  # noqa: BLE001 - a reader must never raise: whatever it raised is the finding
        problem = f"the reader raised {type(error).__name__}: {error}"
        return CheckedFile(
            file=name, verdict="error", dialect=operation.dialect, label=recording.dialect, problem=problem
        )


def _check(recording: Recording, operation: Operation, body: bytes, name: str, cuts: int, seed: int) -> CheckedFile:
    if operation.dialect in SESSIONS:
        return _check_session(recording, operation, read_messages(body), name, cuts, seed)
    facts = _answer_facts(recording)
    whole = read_whole(operation, **facts, content_encoding="", body=body)
    asked = read_request(operation, msgspec.json.encode(recording.request_body))
    differences = compare(recording.expected_usage, fill_in(whole, asked))
    if recording.expected_source not in (None, whole.usage_source):
        differences.append(Difference("usage_source", recording.expected_source, whole.usage_source))
    if _read(operation, facts, [body], "") != whole:
        differences.append(Difference("by a reader", "the same as whole", "another reading"))
    for number, chunks, encoding in _cut(body, cuts, random.Random(f"{seed}/{name}")):  # noqa: S311 - cuts are meant to repeat
        reading = _read(operation, facts, chunks, encoding)
        if reading != whole:
            where = f"cut {number} ({len(chunks)} chunks, {encoding or 'not encoded'})"
            differences.append(Difference(where, "the same as whole", str(reading.usage or reading.usage_source)))
    unread = operation.dialect not in MEANINGS and operation.consumes is not False
    verdict: Verdict = "different" if differences else "equal"
    if recording.expected_ambiguous:
        verdict = "ambiguous"
    if unread:
        verdict, differences = "unsupported", []
    return CheckedFile(
        file=name,
        verdict=verdict,
        dialect=operation.dialect,
        label=recording.dialect,
        differences=differences,
        expected=recording.expected_usage,
        reading=whole,
    )


def _check_session(
    recording: Recording, operation: Operation, messages: list[Message], name: str, cuts: int, seed: int
) -> CheckedFile:
    whole = _read_session(operation, recording.provider, messages, None)
    differences = compare(recording.expected_usage, whole)
    if recording.expected_source not in (None, whole.usage_source):
        differences.append(Difference("usage_source", recording.expected_source, whole.usage_source))
    for number in range(cuts):
        dice = random.Random(f"{seed}/{name}/{number}")  # noqa: S311 - frames are meant to repeat
        reading = _read_session(operation, recording.provider, messages, dice)
        if reading != whole:
            where = f"framing {number}"
            differences.append(Difference(where, "the same as whole", str(reading.usage or reading.usage_source)))
    return CheckedFile(
        file=name,
        verdict="ambiguous" if recording.expected_ambiguous else "different" if differences else "equal",
        dialect=operation.dialect,
        label=recording.dialect,
        differences=differences,
        expected=recording.expected_usage,
        reading=whole,
    )


def _read_session(operation: Operation, provider: str, messages: list[Message], dice: random.Random | None) -> Reading:
    """The reading of messages in plain frames, or in such as `dice` makes."""
    compresses, refers = dice is not None and dice.random() < 0.6, dice is not None and dice.random() < 0.5
    agreed = "permessage-deflate" + ("" if refers else "; server_no_context_takeover; client_no_context_takeover")
    session = open_session(operation, extensions=agreed if compresses else "", told=lambda: None, provider=provider)
    if session is None:
        raise ValueError(f"{operation.dialect} has no sessions")
    feeds = {"sent": session.feed_client, "received": session.feed}
    framers = (
        {}
        if dice is None
        else {
            direction: Framer(dice, compresses=compresses, refers=refers, masks=direction == "sent")
            for direction in feeds
        }
    )
    for message in messages:
        direction = message.direction or ""
        for chunk in framers[direction].chunks(message.text) if framers else [frame(message.text)]:
            feeds[direction](chunk)
    return session.finish()


class _AnswerFacts(TypedDict):
    status: int
    content_type: str
    provider: str
    headers: dict[str, str]


def _answer_facts(recording: Recording) -> _AnswerFacts:
    headers = {name.lower(): value for name, value in recording.response_headers.items()}
    content_type = str(headers.get("content-type", ""))
    return {
        "status": recording.status or 0,
        "content_type": content_type,
        "provider": recording.provider,
        "headers": {name: str(value) for name, value in headers.items()},
    }


def _read(operation: Operation, facts: _AnswerFacts, chunks: list[bytes], encoding: str) -> Reading:
    # Recordings hold bodies decoded; we encode them anew.
    reader = open_reader(operation, **facts, content_encoding=encoding)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def _cut(body: bytes, cuts: int, dice: random.Random) -> Iterator[tuple[int, list[bytes], str]]:
    """`cuts` ways to receive `body`: random pieces, one of them byte by byte if it is short."""
    for number in range(cuts):
        encoding = ENCODINGS[number % len(ENCODINGS)]
        encoded = encode(body, encoding)
        every = len(encoded) if number == 0 and len(encoded) <= 4096 else dice.randint(1, 64)
        at = sorted(dice.choices(range(len(encoded) + 1), k=every)) if every < len(encoded) else range(len(encoded))
        bounds = [0, *at, len(encoded)]
        yield number, [encoded[a:b] for a, b in pairwise(bounds)], encoding


def encode(body: bytes, encoding: str) -> bytes:
    """`body` under a content-encoding, quickly rather than small."""
    match encoding:
        case "gzip":
            return gzip.compress(body, 1, mtime=0)
        case "deflate":
            return zlib.compress(body, 1)
        case "br":
            encoded: bytes = brotli.compress(body, quality=1)
            return encoded
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(body)
    return body


def _sum_up(directory: str, cuts: int, seed: int, checked: list[CheckedFile]) -> Check:
    verdicts = Counter(file.verdict for file in checked)
    dialects: dict[str, Counter[str]] = {}
    for file in checked:
        if file.verdict != "unsupported":
            dialects.setdefault(file.dialect, Counter())[file.verdict] += 1
    supported = [file for file in checked if file.verdict not in ("unsupported", "error")]
    return Check(
        directory=directory,
        cuts=cuts,
        seed=seed,
        checked=len(checked),
        equal=verdicts["equal"],
        different=verdicts["different"],
        ambiguous=verdicts["ambiguous"],
        unsupported=verdicts["unsupported"],
        errors=verdicts["error"],
        dialects={name: dict(sorted(counts.items())) for name, counts in sorted(dialects.items())},
        unsupported_labels=_counted(file.label for file in checked if file.verdict == "unsupported"),
        label_disagreements=_counted(f"{f.label} → {f.dialect}" for f in supported if f.label != f.dialect),
        not_compared=_counted(name for file in supported for name in not_compared(file.expected)),
        files=[file for file in checked if file.verdict not in ("equal", "unsupported")],
    )


def _counted(names: Iterator[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())
