"""An AWS of our own: it recomputes every signature from AWS' published steps, and answers as Bedrock and SageMaker do.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Callable, Collection
from urllib.parse import quote

from tests.sidecar.rig import Peer, json_answer

REGION = "eu-west-1"
Secrets = dict[str, tuple[str, str | None]]  # access key → secret and session token
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)/(\d{8})/([a-z0-9-]+)/([a-z-]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


class Refused(Exception):
    """Not signed as AWS wants it; the text is its error's name."""


def check_signature(head: bytes, body: bytes, secrets: Secrets, expired: Collection[str] = ()) -> str:
    """The service that was signed for. `Refused`."""
    start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = start.split(" ")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(pairs)
    assert len(headers) == len(pairs), "a header came twice"
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise Refused("MissingAuthenticationTokenException")
    key, day, region, service, signed, signature = match.groups()
    secret, token = secrets.get(key, ("", None))
    if not secret:
        raise Refused("UnrecognizedClientException")
    if headers.get("x-amz-security-token") != token:
        raise Refused("InvalidSignatureException")
    assert {"host"} | {name for name in headers if name.startswith("x-amz-")} <= set(signed.split(";"))
    path, _, query = target.partition("?")
    canonical = "\n".join(
        (
            method,
            "/".join(quote(segment, safe="-_.~") for segment in path.split("/")),
            "&".join(sorted(f"{name}={value}" for name, _, value in (p.partition("=") for p in query.split("&") if p))),
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        )
    )
    stamp, scope = headers["x-amz-date"], f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    derived = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        derived = hmac.digest(derived, word.encode(), "sha256")
    if not stamp.startswith(day) or hmac.new(derived, text.encode(), "sha256").hexdigest() != signature:
        raise Refused("InvalidSignatureException")
    if key in expired:
        raise Refused("ExpiredTokenException")
    assert region == REGION
    return service


class Cloud:
    """What it was asked, and whose keys it knows."""

    def __init__(self) -> None:
        self.secrets: Secrets = {"AKIASIDECAR": ("wJalrXUtnFEMI", None)}
        self.expired: set[str] = set()
        self.failures: list[bytes] = []  # answered first, one a call
        self.answer: Callable[[str, bytes], bytes] = answer
        self.asked: list[tuple[str, bytes, bytes]] = []  # service, head, body of what was signed right
        self.refused: list[str] = []

    async def serve(self, peer: Peer) -> None:
        while True:
            head, body = await peer.read_request()
            try:
                service = check_signature(head, body, self.secrets, self.expired)
            except Refused as refused:
                self.refused.append(str(refused))
                told = f"x-amzn-ErrorType: {refused}"
                await peer.send(json_answer(b'{"message":"no"}', told, status="403 Forbidden"))
                continue
            self.asked.append((service, head, body))
            await peer.send(self.failures.pop(0) if self.failures else self.answer(service, head))


def answer(service: str, head: bytes) -> bytes:
    """Whole or streamed, as the path asks."""
    path = head.split(b" ", 2)[1]
    if service == "sagemaker":
        return json_answer(b'{"predictions":[1]}')
    if path.endswith(b"/converse-stream"):
        events = [
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"delta": {"text": "hello"}, "contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
        ]
        body = b"".join(frame(name, payload) for name, payload in events)
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
    if path.endswith(b"/converse"):
        message = {"message": {"role": "assistant", "content": [{"text": "hello"}]}}
        return json_answer(json.dumps({"output": message, "stopReason": "end_turn", "usage": USAGE}).encode())
    return json_answer(b'{"generation":"hello"}')


USAGE = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}


def frame(event: str, payload: object) -> bytes:
    """One message of an AWS event stream."""
    headers = b""
    for name, value in (
        (":message-type", "event"), (":event-type", event), (":content-type", "application/json"),
    ):  # fmt: skip
        headers += bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    body = json.dumps(payload).encode()
    prelude = (16 + len(headers) + len(body)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + zlib.crc32(prelude).to_bytes(4, "big") + headers + body
    return message + zlib.crc32(message).to_bytes(4, "big")
