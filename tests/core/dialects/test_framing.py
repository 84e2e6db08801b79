import pytest

from metering.core.dialects.framing import Framing, Stream, sniff
from metering.core.dialects.windows import HEAD_BYTES, TAIL_BYTES, Kept, Windows


def _stream(text: bytes, framing: Framing = Framing.SSE) -> Stream:
    return Stream(Kept(text, b"", 0), framing)


@pytest.mark.parametrize(
    ("head", "content_type", "framing"),
    [
        (b'data: {"a":1}', "application/json", Framing.SSE),
        (b"event: ping\n", "", Framing.SSE),
        (b": comment\n\n", "text/plain", Framing.SSE),
        (b"\xef\xbb\xbf\n\ndata: 1", "text/event-stream", Framing.SSE),
        (b"\n   \n" * 9_000 + b'{"a":1}', "application/json", Framing.JSON),
        (b'{"error":1}', "text/event-stream", Framing.JSON),
        (b'[{"a":1}]', "", Framing.JSON),
        (b'{"a":1}\n{"a":2}', "application/x-ndjson", Framing.NDJSON),
        (b"<html>", "text/html", Framing.OTHER),
        (b"", "application/json", Framing.OTHER),
    ],
)
def test_the_first_bytes_tell_the_framing(head: bytes, content_type: str, framing: Framing) -> None:
    assert sniff(head, content_type) is framing


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_lf_crlf_or_cr(newline: bytes) -> None:
    text = newline.join([b": c", b"", b"event: x", b'data: {"n":1}', b"", b'data: {"n":', b"data: 2}", b"", b""])
    assert [text.strip() for text in _stream(text).having(b'"n"')] == [b'{"n":1}', b'{"n":\n 2}']


def test_a_forgotten_blank_line_makes_two_texts() -> None:
    assert list(_stream(b'data: {"n":1}\ndata: {"n":2}\n').having(b'"n"')) == [b' {"n":1}', b' {"n":2}']


def test_the_last_frame_needs_no_blank_line() -> None:
    assert list(_stream(b'data: {"n":1}\n\ndata: {"m":2}').having(b'"m"')) == [b' {"m":2}']


def test_nulls_are_not_opened() -> None:
    stream = _stream(b'data: {"n":null}\n\ndata: {"n": null}\n\ndata: {"n":0,"m":{"n":1}}\n\n')
    assert list(stream.having(b'"n"')) == list(stream.having_from_end(b'"n"')) == [b' {"n":0,"m":{"n":1}}']


def test_from_the_end_is_the_other_way_round() -> None:
    stream = _stream(b"".join(b'{"n":%d}\n' % n for n in range(5)), Framing.NDJSON)
    assert list(stream.having_from_end(b'"n"')) == list(stream.having(b'"n"'))[::-1]
    assert list(stream.last()) == [b'{"n":4}']
    assert list(stream.first(2)) == [b'{"n":0}', b'{"n":1}']


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'event: error\ndata: {"a":1}\n\n', True),
        (b'data: 1\n\nevent:error\ndata: {"a":1}\n\n', True),
        (b'data: {"text":"event: error"}\n\n', False),
        (b"data: event: error\n\n", False),
    ],
)
def test_error_events_are_lines_not_content(text: bytes, found: bool) -> None:
    assert _stream(text).has_event(b"error") is found


def test_what_fell_out_of_the_windows_is_told_apart() -> None:
    windows = Windows()
    windows.feed(b'data: {"n":0}\n\n')
    windows.feed(b'data: {"big":"' + b"x" * (HEAD_BYTES + 3 * TAIL_BYTES) + b'"}\n\n')
    windows.feed(b'data: {"n":1}\n\n')
    kept = windows.kept()
    stream = Stream(kept, Framing.SSE)
    assert list(stream.having(b'"n"')) == [b' {"n":0}', b' {"n":1}']
    assert stream.opening.startswith(b'data: {"big":"xxx')
    assert stream.cut.endswith(b'xxx"}')
    assert kept.dropped + len(kept.head) + len(kept.tail) == HEAD_BYTES + 3 * TAIL_BYTES + 2 * 15 + 18
