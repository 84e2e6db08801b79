"""Forms: fields before and after a file, bodies of which only the ends were kept, and what is no form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.core.dialects import RequestFacts, Windows, classify, read_request
from metering.core.dialects.multipart import FIELD_BYTES_MAX, PARTS_MAX, form_fields, is_form

EDIT = classify("POST", "/v1/images/edits")
NAMES = ("model", "stream", "n")


def part(name: str, content: bytes | str, filename: str = "") -> bytes:
    content = content.encode() if isinstance(content, str) else content
    named = f'; filename="{filename}"\r\nContent-Type: audio/mpeg' if filename else ""
    return b'Content-Disposition: form-data; name="%s"%s\r\n\r\n%s' % (name.encode(), named.encode(), content)


def form(*parts: bytes, boundary: str = "x-1-x", end: str = "--\r\n") -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + each + b"\r\n" for each in parts) + mark + end.encode()


MODEL, STREAM = part("model", "whisper-1"), part("stream", "true")
SOUND = part("file", b'\x00\r\n--x-2\r\nContent-Disposition: form-data; name="model"\r\n\r\nevil\r\n', "a.mp3")


@pytest.mark.parametrize("parts", [(MODEL, STREAM, SOUND), (SOUND, MODEL, STREAM), (MODEL, SOUND, STREAM)])
def test_fields_stand_anywhere(parts: tuple[bytes, ...]) -> None:
    assert form_fields(form(*parts), b"", NAMES) == ({"model": "whisper-1", "stream": "true"}, True)


@pytest.mark.parametrize("parts", [(MODEL, STREAM), (SOUND, MODEL, STREAM), (MODEL, SOUND, STREAM)])
def test_the_two_ends_of_a_long_form_are_enough(parts: tuple[bytes, ...]) -> None:
    body = form(*parts, part("file", b"\xff" * 700_000, "b.mp3"), part("n", "2"))
    windows = Windows()
    for start in range(0, len(body), 50_000):
        windows.feed(body[start : start + 50_000])
    kept = windows.kept()
    assert kept.dropped
    fields = {"model": "whisper-1", "stream": "true", "n": "2"}
    assert form_fields(kept.head, kept.tail, NAMES) == (fields, False)


def test_a_form_that_is_still_coming_says_what_has_come() -> None:
    body = form(MODEL, STREAM, SOUND)
    assert form_fields(body[: body.index(b"true") + 2], b"", NAMES) == ({"model": "whisper-1"}, False)
    assert form_fields(body[:-4], b"", NAMES) == ({"model": "whisper-1", "stream": "true"}, False)


@pytest.mark.parametrize(
    "odd",
    [
        part("model", "m" * (FIELD_BYTES_MAX + 1)),
        part("model", "m", "model.txt"),
        b"Content-Disposition: form-data\r\n\r\nm",
        b"\r\nm",
        b"",
    ],
)
def test_a_part_that_is_no_short_field_says_nothing(odd: bytes) -> None:
    assert form_fields(form(odd, STREAM), b"", NAMES) == ({"stream": "true"}, True)


def test_names_may_stand_without_quotes_and_in_any_case() -> None:
    unquoted = b"content-disposition: form-data; name=model\r\nContent-Length: 1\r\n\r\nm"
    assert form_fields(form(unquoted), b"", NAMES) == ({"model": "m"}, True)


def test_the_first_of_two_is_taken_and_there_is_a_bound() -> None:
    assert form_fields(form(MODEL, part("model", "other")), b"", NAMES)[0] == {"model": "whisper-1"}
    assert form_fields(form(*[SOUND] * PARTS_MAX, MODEL), b"", NAMES) == ({}, False)


@pytest.mark.parametrize("body", [b"", b"--", b"--\r\n", b"--" + b"x" * 1000, b'{"model":"m"}', b"\r\n"])
def test_what_is_no_form_has_no_fields(body: bytes) -> None:
    assert form_fields(body, body, NAMES) == ({}, False)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_break_it(head: bytes, tail: bytes) -> None:
    form_fields(b"--x\r\n" + head, tail + b"\r\n--x" + head, NAMES)
    read_request(EDIT, b"--x\r\n" + head, tail)


def test_a_request_says_the_same_as_a_form_and_as_json() -> None:
    """Speech and the like go as JSON, a transcription as a form."""
    transcription = classify("POST", "/v1/audio/transcriptions")
    assert read_request(transcription, form(SOUND, MODEL, STREAM)) == RequestFacts("whisper-1", streamed=True)
    as_json = b'{"model":"whisper-1","stream":true}'
    assert read_request(transcription, as_json) == RequestFacts("whisper-1", streamed=True)
    assert read_request(transcription, form(SOUND, MODEL)) == RequestFacts("whisper-1", streamed=False)
    assert read_request(transcription, form(SOUND, MODEL)[:60]) == RequestFacts(None, streamed=None)
    assert not is_form(b'{"model":"--"}')
