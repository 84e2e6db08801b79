"""Asking for usage, without sockets: what is added to a request, and what is taken out of an answer."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.sidecar.relay.ask_usage import ask, ask_in_body
from metering.sidecar.relay.hidden_event import HELD_BYTES_MAX, EventFilter, HiddenEvent
from metering.sidecar.relay.refusals import REFUSED_MAX, Refusals
from tests.sidecar.rig import chunk, cut

OPTIONS = b'"stream_options":{"include_usage":true}'

ASKED = {
    b'{"stream":true}': b"{" + OPTIONS + b',"stream":true}',
    b' \n{ "model": "m", "stream" : true }\n': b" \n{" + OPTIONS + b', "model": "m", "stream" : true }\n',
    b'{"stream":true,"stream_options":{}}': b'{"stream":true,"stream_options":{"include_usage":true}}',
    b'{"stream":true,"stream_options" : { "include_obfuscation":false} }': (
        b'{"stream":true,"stream_options" : {"include_usage":true, "include_obfuscation":false} }'
    ),
    # one of the same name stands elsewhere
    b'{"x":{"stream_options":{"a":1}},"stream":true,"stream_options":{"b":2}}': (
        b'{"x":{"stream_options":{"a":1}},"stream":true,"stream_options":{"include_usage":true,"b":2}}'
    ),
    b'{"x":{"stream_options":{"include_usage":false}},"stream":true}': (
        b"{" + OPTIONS + b',"x":{"stream_options":{"include_usage":false}},"stream":true}'
    ),
    b'{"messages":["{\\"stream_options\\":{}}","\xc3\xa9\xff"],"stream":true}': (
        b"{" + OPTIONS + b',"messages":["{\\"stream_options\\":{}}","\xc3\xa9\xff"],"stream":true}'
    ),
}
LEFT = [
    b"",
    b"{}",
    b"[]",
    b"true",
    b'{"model":"m"}',
    b'{"stream":false}',
    b'{"stream":1}',
    b'{"stream":"true"}',
    b'{"x":{"stream":true}}',
    b'{"stream":true',
    b'{"stream":true}{"stream":true}',
    b'\xef\xbb\xbf{"stream":true}',
    b'{"stream":true,"stream":false}',
    b'{"stream":true,"stream_options":{"include_usage":true}}',
    b'{"stream":true,"stream_options":{"include_usage":false}}',
    b'{"stream":true,"stream_options":{"include_usage":null}}',
    b'{"stream":true,"stream_options":{"include\\u005fusage":false}}',
    b'{"stream":true,"stream\\u005foptions":{"include_usage":false}}',
    b'{"stream":true,"stream\\u005foptions":{},"x":{"stream_options":{}}}',
    b'{"stream":true,"stream_options":{"include_usage":false},"stream_options":{}}',
    b'{"stream":true,"stream_options":null}',
    b'{"stream":true,"stream_options":[]}',
    b'{"stream":true,"stream_options":{"continuous_usage_stats":true}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", ASKED)
def test_one_member_is_added(body: bytes) -> None:
    assert ask_in_body(body) == ASKED[body]


@pytest.mark.parametrize("body", LEFT)
def test_what_says_something_itself_or_is_in_doubt_stays(body: bytes) -> None:
    assert ask_in_body(body) is None


NAMES = st.sampled_from(["stream", "stream_options", "include_usage", "model", 'a"b', "é", "include_obfuscation"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("stream_options"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_nothing_else_changes(document: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    asking = ask_in_body(body)
    options = document.get("stream_options", {})
    open_question = document.get("stream") is True and isinstance(options, dict) and "include_usage" not in options
    if asking is None:
        # Left alone without need only where a twin might stand.
        assert not open_question or b'"include_usage"' in body
        return
    assert open_question
    assert json.loads(asking) == {**document, "stream_options": {**options, "include_usage": True}}
    added = len(asking) - len(body)
    assert any(asking[:at] + asking[at + added :] == body for at in range(len(body) + 1))


def test_the_head_follows() -> None:
    head = b"POST /a HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 15\r\nACCEPT-encoding: gzip, br\r\nX: Host: 1\r\n\r\n"
    body = b'{"stream":true}'
    assert ask(head, body, body, chunked=False) == (
        b"POST /a HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 55\r\nACCEPT-encoding: identity\r\nX: Host: 1\r\n\r\n",
        b"{" + OPTIONS + b"," + body[1:],
    )
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = chunk(body[:4]) + chunk(body[4:], b";x=1")
    asking = chunk(b"{" + OPTIONS + b"," + body[1:]) + b"0\r\n\r\n"
    assert ask(head, wire + b"0\r\n\r\n", body, chunked=True) == (head, asking)
    assert ask(head, wire + b"0\r\nX-Sum: 0\r\n\r\n", body, chunked=True) is None


# ── the answer ────────────────────────────────────────────────────────────────────────────────────────────

USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}'
WORD = b'{"id":"c","choices":[{"index":0,"delta":{"content":"\\"choices\\":[] data: \\"usage\\":{}"}}],"usage":null}'
HIDDEN = [
    b'data: {"id":"c","choices":[],' + USAGE + b"}\n\n",
    b'data:{"usage" : {"prompt_tokens":1} , "choices" : [ ]}\n\n',
    b'data: {"id":"c","choices":[],' + USAGE + b"}\r\n\r\n",
    b'event: chunk\nid: 7\ndata: {"choices":[],' + USAGE + b',"error":null}\n\n',
    b'data: {"choices":[],"x_groq":{' + USAGE + b"}," + USAGE + b"}\n\n",
]
SHOWN = [
    b"data: " + WORD + b"\n\n",
    b"data: [DONE]\n\n",
    b"data: [DONE]\r\n\r\n",
    b": OPENROUTER PROCESSING\n\n",
    b":\r\n\r\n",
    b"\n",
    b"\r\n",
    b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"model":"","usage":null}\n\n',  # Azure's first
    b'data: {"choices":[],"prompt_filter_results":[],"model":""}\r\n\r\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],' + USAGE + b"}\n\n",  # DeepSeek's and others' last
    b'data: {"choices":[],"moderation":{"flagged":false}}\n\n',
    b'data: {"error":{"message":"late"},"choices":[],' + USAGE + b"}\n\n",
    b'data: {"choices":[],"usage":{}}\n\n',
    b'data: {"object":"x",' + USAGE + b"}\n\n",
    b'data: {"choices":[],' + USAGE + b"\n\n",  # broken
    b'data: {"choices":[],"usage":"none"}\n\n',
    b'event: error\ndata: {"error":{"status_code":400}}\n\n',
    b'{"choices":[],' + USAGE + b"}\n\n",
    b"data: \xff\xfe\n\n",
    b"x" * 50 + b"\n\n",
]


def pieces_of(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at these places."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def shown(pieces: Iterable[bytes]) -> bytes:
    events = EventFilter()
    return b"".join([*map(events.feed, pieces), events.end()])


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_event_is_hidden_however_the_stream_is_cut(hidden: bytes) -> None:
    before = SHOWN[0] + SHOWN[3] + SHOWN[7] + b"data: " + WORD + b"\r\n\r\n"
    stream, want = before + hidden + SHOWN[1], before + SHOWN[1]
    for place in range(len(stream) + 1):
        assert shown(pieces_of(stream, [place])) == want
    for place in range(len(stream) - 3):
        assert shown(pieces_of(stream, [place, place + 1, place + 3])) == want
    assert shown([stream[at : at + 1] for at in range(len(stream))]) == want


@pytest.mark.parametrize("event", SHOWN)
def test_every_other_byte_is_shown(event: bytes) -> None:
    for stream in (event, SHOWN[0] + event + SHOWN[1], event.rstrip(), SHOWN[0] + event[:-1]):
        for place in range(len(stream)):
            assert shown(pieces_of(stream, [place])) == stream


@given(st.lists(st.sampled_from(SHOWN + HIDDEN), max_size=8), st.lists(st.integers(0, 1500), max_size=12), st.data())
def test_hiding_is_the_same_for_all_cuts(events: list[bytes], places: list[int], data: st.DataObject) -> None:
    """A comment inside a hidden frame stays, and the beginning of a frame that was cut is shown."""
    if data.draw(st.booleans()):
        events = [*events, b'data: {"choices":[],\n: still here\ndata: ' + USAGE + b"}\n\n", b'data: {"choices":[],"us']
    want = b"".join(
        event if event in SHOWN or b"\n\n" not in event.replace(b"\r", b"") else b": still here\n" * (b"still" in event)
        for event in events
    )
    assert shown(pieces_of(b"".join(events), places)) == want


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_what_is_no_stream_is_shown(noise: bytes, places: list[int]) -> None:
    assert shown(pieces_of(noise, places)) == noise


def test_bytes_wait_only_while_they_may_be_the_event() -> None:
    events = EventFilter()
    assert events.feed(b'data: {"id":"c","choices":[') == b""
    assert events.feed(b'{"delta"') == b'data: {"id":"c","choices":[{"delta"'
    assert events.feed(b":1}]}") == b":1}]}"
    assert events.feed(b"\n\n: wor") == b"\n\n: wor"
    assert events.feed(b"k\n\nnobody: knows") == b"k\n\nnobody: knows"
    assert events.feed(b"\n\n") == b"\n\n"
    endless = b'data: {"choices":[],"x":"' + b"x" * HELD_BYTES_MAX
    assert events.feed(endless) == endless


def test_an_event_that_lacks_its_blank_line_is_hidden_at_the_end() -> None:
    assert shown([SHOWN[0], HIDDEN[0][:-2]]) == shown([SHOWN[0], HIDDEN[0][:-1]]) == SHOWN[0]


@given(st.lists(st.integers(1, 40)), st.sampled_from([b"", b"X-Sum: 0\r\n", b"a: 1\r\nX-Two:\r\n"]), st.data())
def test_chunks_are_written_anew_and_trailers_stay(sizes: list[int], trailers: bytes, data: st.DataObject) -> None:
    content = SHOWN[0] + HIDDEN[0] + data.draw(st.sampled_from([SHOWN[1], b"\r\n0\r\nA: b\r\n"]))
    last = b"00;e=1\r\n" + trailers + b"\r\n"
    wire = [chunk(piece, b";x") for piece in cut(content, sizes)]
    reads = [(framed, piece) for framed, piece in zip(wire, cut(content, sizes), strict=True)]
    at = data.draw(st.integers(0, len(last)))
    answer = HiddenEvent(chunked=True)
    out = b"".join(answer.feed(*read) for read in reads) + answer.feed(last[:at], b"") + answer.finish(last[at:], b"")
    got, rest = b"", out
    while not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        got, rest = got + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    assert got == content.replace(HIDDEN[0], b"")
    assert rest == b"0\r\n" + trailers + b"\r\n"


def test_refusals_are_bounded() -> None:
    refusals = Refusals()
    for number in range(REFUSED_MAX + 1):
        refusals.add("a:1", b"/%d" % number)
    assert not refusals.holds("a:1", b"/0")
    assert refusals.holds("a:1", b"/1")
    assert not refusals.holds("b:1", b"/1")
