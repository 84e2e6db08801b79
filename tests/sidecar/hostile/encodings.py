"""Transfer-Encoding: the only one served is one `chunked`, whose name some parsers read into other words."""

from tests.sidecar.hostile.case import Case, bare, forwarded, get, post, refused
from tests.sidecar.hostile.lengths import CHUNKS, TE

_VALUES = {
    "identity": b"identity",
    "xchunked": b"xchunked",
    "chunkedx": b"chunkedx",
    "chunk": b"chunk",
    "cow": b"cow",
    "chunked twice": b"chunked, chunked",
    "chunked, gzip": b"chunked, gzip",
    "gzip, chunked": b"gzip, chunked",
    "deflate, chunked": b"deflate, chunked",
    "chunked, identity": b"chunked, identity",
    "gzip": b"gzip",
    "identity, chunked": b"identity, chunked",
    "ends in a comma": b"chunked,",
    "begins with a comma": b",chunked",
    "semicolon": b"chunked;",
    "parameter": b"chunked;q=1",
    "quoted": b'"chunked"',
    "in apostrophes": b"'chunked'",
    "two words": b"chunked chunked",
    "a space inside": b"chun ked",
    "nothing": b"",
    "spaces only": b"  ",
    "vertical tab behind": b"chunked\x0b",
    "vertical tab before": b"\x0bchunked",
    "form feed before": b"\x0cchunked",
    "NUL behind": b"chunked\0",
    "NUL before": b"\0chunked",
    "escape behind": b"chunked\x1b",
    "DEL": b"chunked\x7f",
    "no-break space": b"chunked\xa0",
    "zero-width space": "\u200bchunked".encode(),
    "Kelvin sign": "chun\u212aed".encode(),
    "bare carriage return": b"chunked\rX: y",
    "bare line feed before": b"\nchunked",
    "folded": b"\r\n chunked",
    "folded behind": b"chunked\r\n , gzip",
    "a comment": b"chunked (really)",
    "brackets": b"[chunked]",
}

_NAMED = {
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "NUL before the colon": b"Transfer-Encoding\0: chunked",
    "vertical tab before the colon": b"Transfer-Encoding\x0b: chunked",
    "space before the name": b" Transfer-Encoding: chunked",
    "folded onto a header": b"X: y\r\n Transfer-Encoding: chunked",
    "folded onto a header by a tab": b"X: y\r\n\tTransfer-Encoding: chunked",
    "space inside the name": b"Transfer Encoding: chunked",
    "long s in the name": "Tran\u017ffer-Encoding: chunked".encode(),
    "behind a bare carriage return": b"X: y\rTransfer-Encoding: chunked",
    "behind a bare line feed": b"X: y\nTransfer-Encoding: chunked",
    "behind two carriage returns": b"X: y\r\r\nTransfer-Encoding: chunked",
    "no colon": b"Transfer-Encoding chunked",
    "equals sign": b"Transfer-Encoding= chunked",
}

_LINES = {
    "twice": (TE, TE),
    "then identity": (TE, b"Transfer-Encoding: identity"),
    "behind identity": (b"Transfer-Encoding: identity", TE),
    "then cow": (TE, b"Transfer-Encoding: cow"),
    "behind gzip": (b"Transfer-Encoding: gzip", TE),
    "then an empty one": (TE, b"Transfer-Encoding:"),
    "behind an empty one": (b"Transfer-Encoding:", TE),
    "twice, in two cases": (TE, b"transfer-encoding: CHUNKED"),
}

CASES: tuple[Case, ...] = (
    *(
        refused(f"encoding: {name}", post(b"Transfer-Encoding: " + value, body=CHUNKS), "not exactly chunked")
        for name, value in _VALUES.items()
    ),
    *(refused(f"encoding named: {name}", post(line, body=CHUNKS), "some ignore it") for name, line in _NAMED.items()),
    *(refused(f"encodings: {name}", post(*lines, body=CHUNKS), "more than one") for name, lines in _LINES.items()),
    refused("encoding in HTTP/1.0", bare(b"Host: a", TE, start=b"POST /openai/x HTTP/1.0") + CHUNKS, "1.0 has none"),
    refused(
        "encoding in HTTP/1.0 kept alive",
        bare(b"Host: a", b"Connection: keep-alive", TE, start=b"POST /openai/x HTTP/1.0") + CHUNKS,
        "1.0 has none",
    ),
    forwarded("encoding: plain", post(TE, body=CHUNKS), "as it should be", body=b"hello"),
    forwarded("encoding: capitals", post(b"Transfer-Encoding: CHUNKED", body=CHUNKS), "no case", body=b"hello"),
    forwarded("encoding: odd case", post(b"tRANSFER-eNCODING: cHuNkEd", body=CHUNKS), "no case", body=b"hello"),
    forwarded("encoding: no space", post(b"Transfer-Encoding:chunked", body=CHUNKS), "optional", body=b"hello"),
    forwarded("encoding: tab before", post(b"Transfer-Encoding:\tchunked", body=CHUNKS), "white space", body=b"hello"),
    forwarded("encoding: spaces", post(b"Transfer-Encoding:  chunked  ", body=CHUNKS), "white space", body=b"hello"),
    refused("encoding: tab behind", post(b"Transfer-Encoding: chunked\t", body=CHUNKS), "allowed, and unclear to some"),
    forwarded("encoding: in a GET", get(TE) + CHUNKS, "unusual, not unclear", method=b"GET", body=b"hello"),
    forwarded("encoding: with an underscore", post(b"Transfer_Encoding: chunked"), "another header"),
    forwarded("encoding: with a prefix", post(b"X-Transfer-Encoding: chunked"), "another header"),
    forwarded("encoding: TE only", post(b"TE: chunked"), "TE frames nothing, and is not forwarded"),
    forwarded("encoding: Content-Encoding", post(b"Content-Encoding: chunked"), "frames nothing"),
)
