"""Answers of the sidecar's own: RFC 9457 problem+json, one sentence that says what to do."""

from http import HTTPStatus

import msgspec

_ENCODER = msgspec.json.Encoder()


class Refusal(Exception):
    """A request that is not forwarded: answered with `status` and the sentence."""

    def __init__(self, status: int, sentence: str, *, close: bool = False) -> None:
        super().__init__(sentence)
        self.status = status
        self.close = close  # the connection's framing is in doubt: nothing more is read from it


def problem(status: int, sentence: str, *, close: bool, head_only: bool = False, extra: bytes = b"") -> bytes:
    """A whole HTTP/1.1 response. `extra` = more header lines, each with its CRLF."""
    title = HTTPStatus(status).phrase
    body = _ENCODER.encode({"type": "about:blank", "title": title, "status": status, "detail": sentence})
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n%s%s\r\n" % (
        status,
        title.encode(),
        len(body),
        extra,
        b"Connection: close\r\n" if close else b"",
    )
    return head if head_only else head + body
