"""Content-Length: alone, doubled, beside Transfer-Encoding, and spelled in ways that parsers read differently."""

from tests.sidecar.hostile.case import Case, bare, forwarded, get, post, refused

TE = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

_BESIDE = {
    "length, then chunked": post(b"Content-Length: 5", TE, body=CHUNKS),
    "chunked, then length": post(TE, b"Content-Length: 5", body=CHUNKS),
    "zero length and chunked": post(b"Content-Length: 0", TE, body=CHUNKS),
    "the right length and chunked": post(b"Content-Length: 15", TE, body=CHUNKS),
    "length and chunked far apart": post(b"Content-Length: 5", *[b"X-%d: y" % n for n in range(40)], TE, body=CHUNKS),
    "lower-case length and upper-case chunked": post(b"content-length: 5", b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS),
    "length between two encodings": post(TE, b"Content-Length: 5", b"Transfer-Encoding: identity", body=CHUNKS),
    "length and identity": post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"),
    "length and gzip, chunked": post(b"Content-Length: 5", b"Transfer-Encoding: gzip, chunked", body=CHUNKS),
    "length and xchunked": post(b"Content-Length: 5", b"Transfer-Encoding: xchunked", body=b"hello"),
    "length and an empty encoding": post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello"),
    "length and a tabbed chunked": post(b"Content-Length: 5", b"Transfer-Encoding:\tchunked", body=CHUNKS),
    "length and chunked in a GET": get(b"Content-Length: 5", TE) + CHUNKS,
    "length and chunked in HTTP/1.0": bare(b"Host: a", b"Content-Length: 5", TE, start=b"POST /openai/x HTTP/1.0")
    + CHUNKS,
    "length and chunked that Connection names": post(
        b"Connection: transfer-encoding", b"Content-Length: 5", TE, body=CHUNKS
    ),
    "chunked and length that Connection names": post(
        b"Connection: content-length", TE, b"Content-Length: 5", body=CHUNKS
    ),
}

_DOUBLED = {
    "twice the same": post(b"Content-Length: 2", b"Content-Length: 2", body=b"ab"),
    "twice, differing": post(b"Content-Length: 2", b"Content-Length: 40", body=b"ab"),
    "twice, the first empty": post(b"Content-Length:", b"Content-Length: 2", body=b"ab"),
    "twice, in two cases": post(b"Content-Length: 2", b"CONTENT-LENGTH: 0", body=b"ab"),
    "twice, far apart": post(b"Content-Length: 2", *[b"X: y"] * 30, b"Content-Length: 0", body=b"ab"),
    "three times": post(*[b"Content-Length: 2"] * 3, body=b"ab"),
    "a list of the same": post(b"Content-Length: 2, 2", body=b"ab"),
    "a list without a space": post(b"Content-Length: 2,2", body=b"ab"),
    "a list that differs": post(b"Content-Length: 2, 40", body=b"ab"),
    "a list that ends in a comma": post(b"Content-Length: 2,", body=b"ab"),
    "a list that begins with a comma": post(b"Content-Length: ,2", body=b"ab"),
    "two numbers": post(b"Content-Length: 2 2", body=b"ab"),
    "two numbers and a tab": post(b"Content-Length: 2\t2", body=b"ab"),
}

_SPELLED = {
    "plus": b"+2",
    "minus": b"-2",
    "minus zero": b"-0",
    "hexadecimal": b"0x2",
    "octal": b"0o2",
    "binary": b"0b10",
    "exponent": b"2e0",
    "fraction": b"2.0",
    "underscore": b"1_0",
    "quoted": b'"2"',
    "parameter": b"2;q=1",
    "letters": b"two",
    "nothing": b"",
    "spaces only": b"   ",
    "a tab only": b"\t",
    "the word chunked": b"2, chunked",
    "2 to the 64th": b"18446744073709551616",
    "2 to the 64th and two": b"18446744073709551618",
    "one less than 2 to the 64th": b"18446744073709551615",
    "2 to the 63rd": b"9223372036854775808",
    "30 digits": b"9" * 30,
    "five thousand zeros": b"0" * 5000 + b"2",
    "Arabic digits": "٢".encode(),
    "full-width digits": "２".encode(),
    "superscript in Latin-1": b"\xb2",
    "no-break space": b"2\xa0",
    "vertical tab behind": b"2\x0b",
    "vertical tab before": b"\x0b2",
    "form feed": b"\x0c2",
    "NUL behind": b"2\0",
    "NUL before": b"\x002",
    "bare carriage return": b"2\r",
    "folded": b"\r\n 2",
    "folded behind": b"2\r\n 0",
    "bare line feed": b"\n2",
    "digits and letters": b"2a",
    "newline escape": b"2\\r\\n",
}

_NAMED = {
    "space before the colon": b"Content-Length : 2",
    "tab before the colon": b"Content-Length\t: 2",
    "NUL before the colon": b"Content-Length\0: 2",
    "vertical tab before the colon": b"Content-Length\x0b: 2",
    "space inside the name": b"Content Length: 2",
    "space before the name": b" Content-Length: 2",
    "tab before the name": b"\tContent-Length: 2",
    "carriage return before the name": b"\rContent-Length: 2",
    "no colon": b"Content-Length 2",
    "two colons": b"Content-Length:: 2",
    "long s in the name": "Content-Lengthſ: 2".encode(),
    "no-break space in the name": b"Content-Length\xa0: 2",
    "behind a bare carriage return": b"X: y\rContent-Length: 2",
    "behind a bare line feed": b"X: y\nContent-Length: 2",
}

CASES: tuple[Case, ...] = (
    *(refused(f"length beside encoding: {name}", raw, "two framings") for name, raw in _BESIDE.items()),
    *(refused(f"length doubled: {name}", raw, "two lengths") for name, raw in _DOUBLED.items()),
    *(
        refused(f"length spelled: {name}", post(b"Content-Length: " + value, body=b"ab"), "not 1*DIGIT of a sane size")
        for name, value in _SPELLED.items()
    ),
    *(refused(f"length named: {name}", post(line, body=b"ab"), "some ignore it") for name, line in _NAMED.items()),
    forwarded("length: plain", post(b"Content-Length: 2", body=b"ab"), "as it should be", body=b"ab"),
    forwarded("length: zero", post(b"Content-Length: 0"), "no body"),
    forwarded("length: none", post(), "a request without a length has no body"),
    forwarded("length: leading zeros", post(b"Content-Length: 002", body=b"ab"), "1*DIGIT", body=b"ab"),
    forwarded("length: no space", post(b"Content-Length:2", body=b"ab"), "optional white space", body=b"ab"),
    forwarded("length: tabs around", post(b"Content-Length:\t2\t", body=b"ab"), "optional white space", body=b"ab"),
    forwarded("length: spaces around", post(b"Content-Length:  2  ", body=b"ab"), "optional white space", body=b"ab"),
    forwarded("length: odd case", post(b"cOnTeNt-LeNgTh: 2", body=b"ab"), "names have no case", body=b"ab"),
    forwarded("length: with an underscore", post(b"Content_Length: 40"), "another header, for all it looks like"),
    forwarded("length: with a prefix", post(b"X-Content-Length: 40"), "another header"),
    forwarded("length: in a GET", get(b"Content-Length: 2") + b"ab", "unusual, not unclear", method=b"GET", body=b"ab"),
    forwarded(
        "length: a body that looks like a request",
        post(b"Content-Length: %d" % len(get(target=b"/openai/inner")), body=get(target=b"/openai/inner")),
        "a body is a body",
        body=get(target=b"/openai/inner"),
    ),
)
