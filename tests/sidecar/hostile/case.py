"""What a case of the corpus is: the bytes of one client, and what may come of them."""

import msgspec

# Sent behind every case. Seen upstream by itself if the case is a request that leaves its connection open, else never.
BEHIND = b"GET /openai/behind HTTP/1.1\r\nHost: a\r\n\r\n"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: what the sidecar itself answers, and closes; None: the upstream gets exactly this one request."""

    name: str
    raw: bytes
    why: str = ""
    status: int | None = None
    method: bytes = b"POST"
    target: bytes = b"/x"
    body: bytes = b""
    closes: bool = False  # accepted, but the connection does not go on

    @property
    def sent(self) -> bytes:
        """With the request behind it."""
        return self.raw + BEHIND


def post(*lines: bytes, body: bytes = b"", start: bytes = b"POST /openai/x HTTP/1.1") -> bytes:
    """A request whose Host is in order."""
    return b"\r\n".join((start, b"Host: a", *lines, b"", body))


def get(*lines: bytes, target: bytes = b"/openai/x") -> bytes:
    """The same without a body, with its Host."""
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", b"Host: a", *lines, b"", b""))


def bare(*lines: bytes, start: bytes = b"GET /openai/x HTTP/1.1") -> bytes:
    """A head whose every line is given."""
    return b"\r\n".join((start, *lines, b"", b""))


def refused(name: str, raw: bytes, why: str = "", status: int = 400) -> Case:
    """In doubt, or not served: nothing goes upstream."""
    return Case(name=name, raw=raw, why=why, status=status)


def forwarded(name: str, raw: bytes, why: str, **seen: bytes | bool) -> Case:
    """Beyond doubt: one request, seen upstream as `seen` says."""
    return msgspec.convert({"name": name, "raw": raw, "why": why, **seen}, Case)


def fetched(name: str, raw: bytes, why: str, **seen: bytes | bool) -> Case:
    """A GET that is forwarded."""
    return forwarded(name, raw, why, **{"method": b"GET", **seen})
