"""Chunked bodies: sizes, extensions, the line ends between them, and trailers."""

from tests.sidecar.hostile.case import Case, forwarded, post, refused
from tests.sidecar.hostile.lengths import TE

LAST = b"0\r\n\r\n"

_SIZES = {
    "no digit": b"\r\nhello\r\n",
    "no hexadecimal": b"xyz\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "suffix h": b"5h\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "minus zero": b"-0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n",
    "space before": b" 5\r\nhello\r\n",
    "space behind": b"5 \r\nhello\r\n",
    "tab before": b"\t5\r\nhello\r\n",
    "tab behind": b"5\t\r\nhello\r\n",
    "two numbers": b"5 5\r\nhello\r\n",
    "vertical tab": b"5\x0b\r\nhello\r\n",
    "NUL": b"5\0\r\nhello\r\n",
    "quoted": b'"5"\r\nhello\r\n',
    "fraction": b"5.0\r\nhello\r\n",
    "comma": b"5,5\r\nhello\r\n",
    "Arabic digit": "٥\r\nhello\r\n".encode(),
    "full-width digit": "５\r\nhello\r\n".encode(),
    "no-break space": b"5\xa0\r\nhello\r\n",
    "2 to the 64th": b"10000000000000000\r\nhello\r\n",
    "2 to the 64th and five": b"10000000000000005\r\nhello\r\n",
    "one less than 2 to the 64th": b"F" * 16 + b"\r\nhello\r\n",
    "2 to the 63rd": b"8000000000000000\r\nhello\r\n",
    "2 to the 32nd times 2 to the 32nd": b"1" + b"0" * 24 + b"\r\n",
    "a hundred zeros": b"0" * 100 + b"5\r\nhello\r\n",
    "only an extension": b";a=b\r\nhello\r\n",
    "equals": b"5=a\r\nhello\r\n",
}

_ENDS = {
    "bare line feed behind the size": b"5\nhello\r\n" + LAST,
    "bare carriage return behind the size": b"5\rhello\r\n" + LAST,
    "two carriage returns behind the size": b"5\r\r\nhello\r\n" + LAST,
    "line feed, then CRLF behind the size": b"5\n\r\nhello\r\n" + LAST,
    "nothing behind the data": b"5\r\nhello" + LAST,
    "bare line feed behind the data": b"5\r\nhello\n" + LAST,
    "bare carriage return behind the data": b"5\r\nhello\r" + LAST,
    "two bytes behind the data": b"5\r\nhelloXX" + LAST,
    "one byte too many": b"5\r\nhelloX\r\n" + LAST,
    "one byte too few": b"5\r\nhell\r\n" + LAST,
    "two line ends behind the data": b"5\r\nhello\r\n\r\n" + LAST,
    "line ends swapped": b"5\r\nhello\n\r" + LAST,
    "a space behind the data": b"5\r\nhello \r\n" + LAST,
    "bare line feed behind the last size": b"5\r\nhello\r\n0\n\r\n",
    "bare line feed at the very end": b"5\r\nhello\r\n0\r\n\n",
    "bare carriage return at the very end": b"5\r\nhello\r\n0\r\n\rX",
    "no line end at the very end": b"5\r\nhello\r\n0\r\n",  # what is behind it is read as a trailer
    "all bare line feeds": b"5\nhello\n0\n\n",
}

_EXTENSIONS = {
    "a NUL": b"5;a\0b\r\nhello\r\n" + LAST,
    "a bare line feed": b"5;a\nhello\r\n" + LAST,
    "a bare line feed that hides a size": b"5;a=b\nX\r\nhello\r\n" + LAST,
    "a bare carriage return": b"5;a\rb\r\nhello\r\n" + LAST,
    "a quoted line end": b'5;a="\r\nhello\r\n"\r\n' + LAST,
    "a quoted bare line feed": b'5;a="b\nc"\r\nhello\r\n' + LAST,
    "a vertical tab": b"5;a=\x0b\r\nhello\r\n" + LAST,
    "an escape": b"5;a=\x1b\r\nhello\r\n" + LAST,
    "DEL": b"5;a=\x7f\r\nhello\r\n" + LAST,
    "more than a line may have": b"5;" + b"a" * 5000 + b"\r\nhello\r\n" + LAST,
    "a bare line feed in the last chunk": b"5\r\nhello\r\n0;a\n\r\n",
}

_TRAILERS = {
    "no colon": b"bad trailer\r\n\r\n",
    "empty name": b": y\r\n\r\n",
    "space before the colon": b"T : y\r\n\r\n",
    "space before the name": b" T: y\r\n\r\n",
    "folded": b"T: y\r\n z\r\n\r\n",
    "NUL": b"T: a\0b\r\n\r\n",
    "bare carriage return": b"T: a\rb\r\n\r\n",
    "bare line feed": b"T: a\nb: c\r\n\r\n",
    "ends in line feeds": b"T: a\n\n",
    "not a token": b"T(: y\r\n\r\n",
    "a request line": b"GET /openai/inner HTTP/1.1\r\nHost: a\r\n\r\n",
    "too long": b"T: " + b"a" * 5000 + b"\r\n\r\n",
    "too many": b"T: y\r\n" * 5000 + b"\r\n",
    "Content-Length": b"Content-Length: 40\r\n\r\n",
    "Transfer-Encoding": b"transfer-encoding: chunked\r\n\r\n",
    "Host": b"Host: b\r\n\r\n",
    "Connection": b"Connection: close\r\n\r\n",
    "Upgrade": b"Upgrade: websocket\r\n\r\n",
    "TE": b"TE: trailers\r\n\r\n",
    "Trailer": b"Trailer: X\r\n\r\n",
    "Expect": b"Expect: 100-continue\r\n\r\n",
    "Authorization": b"Authorization: Bearer x\r\n\r\n",
    "Content-Encoding": b"Content-Encoding: gzip\r\n\r\n",
    "Keep-Alive": b"Keep-Alive: 5\r\n\r\n",
    "Proxy-Connection": b"Proxy-Connection: close\r\n\r\n",
    "a metering key": b"X-Metering-Key: mk_a\r\n\r\n",
    "the second of two": b"T: y\r\nContent-Length: 40\r\n\r\n",
}

_GOOD = {
    "leading zeros": (b"0005\r\nhello\r\n" + LAST, b"hello"),
    "both cases": (b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST, b"0123456789" * 2),
    "many small ones": (b"1\r\nx\r\n" * 300 + LAST, b"x" * 300),
    "no data": (LAST, b""),
    "a last size of three zeros": (b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    "an extension": (b"5;a\r\nhello\r\n" + LAST, b"hello"),
    "an extension with a value": (b"5;a=b\r\nhello\r\n" + LAST, b"hello"),
    "a quoted extension": (b'5;a="b;c"\r\nhello\r\n' + LAST, b"hello"),
    "an extension of the last chunk": (b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello"),
    "a trailer": (b"5\r\nhello\r\n0\r\nT: y\r\n\r\n", b"hello"),
    "two trailers": (b"5\r\nhello\r\n0\r\nT: y\r\nU:z\r\n\r\n", b"hello"),
    "data that looks like an end": (b"5\r\n0\r\n\r\n\r\n" + LAST, b"0\r\n\r\n"),
    "data that looks like a request": (
        b"1b\r\nGET /openai/inner HTTP/1.1\n\r\n" + LAST,
        b"GET /openai/inner HTTP/1.1\n",
    ),
}

CASES: tuple[Case, ...] = (
    *(refused(f"chunk size: {name}", post(TE, body=body + LAST), "not 1*HEXDIG") for name, body in _SIZES.items()),
    *(refused(f"chunk ends: {name}", post(TE, body=body), "not one CRLF") for name, body in _ENDS.items()),
    *(refused(f"chunk extension: {name}", post(TE, body=body), "not text") for name, body in _EXTENSIONS.items()),
    *(
        refused(f"trailer: {name}", post(TE, body=b"5\r\nhello\r\n0\r\n" + body), "broken, or not for trailers")
        for name, body in _TRAILERS.items()
    ),
    *(
        forwarded(f"chunks: {name}", post(TE, body=body), "RFC 9112 section 7.1", body=content)
        for name, (body, content) in _GOOD.items()
    ),
)
