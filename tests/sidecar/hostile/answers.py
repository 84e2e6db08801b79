"""Answers of upstreams that are broken or hostile, and what a client may see of them."""

import msgspec

OK = b"HTTP/1.1 200 OK\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`passed`: what of `raw` reaches the client, as a whole answer; None: 502. `cut`: or a visible cut instead."""

    name: str
    raw: bytes
    passed: bytes | None = None
    cut: bool = False
    head_request: bool = False  # asked for by HEAD


def _length(value: bytes) -> bytes:
    return OK + b"Content-Length: " + value + b"\r\n\r\nab"


_HEADS = {
    "no HTTP": b"hello\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9 by name": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "minus": b"HTTP/1.1 -200 OK\r\nContent-Length: 0\r\n\r\n",
    "letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "carriage return in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "a space first": b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a blank line first": b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n" + EVIL,
    "one bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "bare line feed behind a header": OK + b"X: y\nContent-Length: 0\r\n\r\n",
    "bare carriage return": OK + b"X: a\rContent-Length: 0\r\n\r\n",
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "NUL": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control byte": OK + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\nab",
    "space before the colon of chunked": OK + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "empty name": OK + b": y\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"xyz\r\nContent-Length: 0\r\n\r\n",
    "name of two words": OK + b"X Y: z\r\nContent-Length: 0\r\n\r\n",
    "endless header": OK + b"X: " + b"a" * 80_000,
    "endless status line": b"HTTP/1.1 200 " + b"a" * 80_000,
    "a flood of headers": OK + b"X: y\r\n" * 20_000 + b"Content-Length: 0\r\n\r\n",
    "a flood of interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200 + EVIL,
    "a switch nobody asked for": SWITCH + b"Upgrade: websocket\r\n\r\n",
    "a switch to h2c": SWITCH + b"Upgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n",
    "an interim answer with a body": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + EVIL,
    "length and chunked": OK + b"Content-Length: 5\r\n" + TE + b"\r\n" + CHUNKS,
    "chunked and length": OK + TE + b"Content-Length: 5\r\n\r\n" + CHUNKS,
    "length and identity": OK + b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "length and gzip": OK + b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    "two lengths that differ": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + TE + b"\r\n" + CHUNKS,
    "chunked twice": OK + TE + TE + b"\r\n" + CHUNKS,
    "chunked, then identity": OK + TE + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKS,
}

_LENGTHS = {
    "list": b"2, 2",
    "plus": b"+2",
    "minus": b"-2",
    "hexadecimal": b"0x2",
    "nothing": b"",
    "huge": b"9" * 30,
    "2 to the 64th and two": b"18446744073709551618",
    "five thousand zeros": b"0" * 5000 + b"2",
    "two words": b"2 2",
    "underscore": b"1_0",
    "letters": b"two",
    "fraction": b"2.0",
    "vertical tab": b"\x0b2",
    "2 to the 63rd": b"9223372036854775808",
}

_ENCODINGS = {
    "xchunked": b"xchunked",
    "quoted": b'"chunked"',
    "parameter": b"chunked;q=1",
    "a list of two": b"chunked, chunked",
    "gzip behind": b"chunked, gzip",
    "identity behind": b"chunked, identity",
    "a comma behind": b"chunked,",
    "a space inside": b"chun ked",
    "nothing": b"",
    "vertical tab": b"\x0bchunked",
    "cow": b"cow",
}

_CHUNKS = {
    "no hexadecimal": b"xyz\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "a space before": b" 5\r\nhello\r\n",
    "overflow": b"F" * 17 + b"\r\nhello\r\n",
    "2 to the 64th and five": b"1" + b"0" * 15 + b"5\r\nhello\r\n",
    "bare line feed": b"5\nhello\r\n",
    "too long": b"5\r\nhelloX\r\n",
    "no line end": b"5\r\nhello",
    "too short": b"5\r\nhell\r\n",
    "bare line feed behind the data": b"5\r\nhello\n",
    "NUL in an extension": b"5;a\0b\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "bare line feed in an extension": b"5;a\nb\r\nhello\r\n",
    "bare carriage return": b"5\rhello\r\n",
}

_HEAD_204 = b"HTTP/1.1 204 No Content\r\n\r\n"
_HEAD_304 = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"
_CHUNKED = OK + TE + b"\r\n" + CHUNKS
_GOOD = OK + b"Content-Length: 2\r\n\r\nab"

ANSWERS: tuple[Answer, ...] = (
    *(Answer(name=f"head: {name}", raw=raw) for name, raw in _HEADS.items()),
    *(Answer(name=f"length: {name}", raw=_length(value)) for name, value in _LENGTHS.items()),
    *(
        Answer(name=f"encoding: {name}", raw=OK + b"Transfer-Encoding: " + value + b"\r\n\r\n" + CHUNKS)
        for name, value in _ENCODINGS.items()
    ),
    *(
        Answer(name=f"chunk: {name}", raw=OK + TE + b"\r\n" + body + b"0\r\n\r\n" + EVIL, cut=True)
        for name, body in _CHUNKS.items()
    ),
    Answer(name="surplus: behind chunks", raw=_CHUNKED + EVIL, passed=_CHUNKED, cut=True),
    Answer(name="surplus: behind a length", raw=_GOOD + EVIL, passed=_GOOD),
    Answer(name="surplus: one byte", raw=_GOOD + b"x", passed=_GOOD),
    Answer(name="surplus: a body behind 204", raw=_HEAD_204 + EVIL, passed=_HEAD_204),
    Answer(name="surplus: chunks behind 204", raw=_HEAD_204 + CHUNKS, passed=_HEAD_204),
    Answer(name="surplus: a body behind 304", raw=_HEAD_304 + b"evil", passed=_HEAD_304),
    Answer(name="surplus: a body behind HEAD", raw=_GOOD, passed=_GOOD[:-2], head_request=True),
    Answer(name="surplus: an answer behind HEAD", raw=_GOOD[:-2] + EVIL, passed=_GOOD[:-2], head_request=True),
    Answer(
        name="surplus: behind a length of zero",
        raw=OK + b"Content-Length: 0\r\n\r\n" + EVIL,
        passed=OK + b"Content-Length: 0\r\n\r\n",
    ),
    Answer(
        name="fine: interim answers",
        raw=b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 9 + _GOOD,
        passed=b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 9 + _GOOD,
    ),
    Answer(name="fine: no reason", raw=_GOOD.replace(b" OK", b" "), passed=_GOOD.replace(b" OK", b" ")),
    Answer(name="fine: chunks", raw=_CHUNKED, passed=_CHUNKED),
)
