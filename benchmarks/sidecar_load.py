"""The two ends of a sidecar benchmark, raw protocols on uvloop: an upstream of canned answers, a closed-loop load.

    python -m benchmarks.sidecar_load upstream PORT
    python -m benchmarks.sidecar_load load PORT PATH CASE CONNECTIONS SECONDS

`load` prints calls, failed calls, and latency of whole answers in ms as JSON. CASE is `json`, `traced` (another
`traceparent` in each call's head) or `stream`.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

MODEL = b'"model":"gpt-4o-mini"'
USAGE = b'"usage":{"prompt_tokens":412,"completion_tokens":118,"total_tokens":530}'
JSON_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion",%s,"choices":[{"index":0,"message":{"role":"assistant",' % MODEL
)
JSON_BODY += b'"content":"%s"},"finish_reason":"stop"}],%s}' % (b"word " * 150, USAGE)
JSON_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(JSON_BODY) + JSON_BODY
)
CHUNK = b'data: {"id":"c-1",%s,"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n' % MODEL
LAST = b'data: {"id":"c-1",%s,"choices":[],%s}\n\ndata: [DONE]\n\n' % (MODEL, USAGE)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = [STREAM_HEAD, *(b"%x\r\n%s\r\n" % (len(data), data) for data in [CHUNK] * 99 + [LAST]), b"0\r\n\r\n"]
ENDS = {"json": JSON_BODY[-64:], "traced": JSON_BODY[-64:], "stream": b"\r\n0\r\n\r\n"}
ASKS_STREAM = b'"stream":true'


class CannedUpstream(asyncio.Protocol):
    """Answers each request as soon as its body is complete; a stream leaves chunk by chunk."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        data = self._data = self._data + data if self._data else data
        if not data.endswith(b"}"):  # the load's bodies do, and have no other brace at a segment's end
            return
        self._data = b""
        if ASKS_STREAM in data[-32:]:
            for piece in STREAM:
                self._transport.write(piece)
        else:
            self._transport.write(JSON_ANSWER)


class Caller(asyncio.Protocol):
    """One connection that asks, waits for the whole answer, and asks again until `until` (monotonic)."""

    def __init__(self, path: str, case: str, until: float) -> None:
        more = b',"stream":true}' if case == "stream" else b"}"
        body = b'{%s,"messages":[{"role":"user","content":"%s"}]%s' % (MODEL, b"hello " * 320, more)
        head = f"POST {path} HTTP/1.1\r\nHost: benchmark\r\nAccept: application/json\r\n"
        head += "User-Agent: OpenAI/Python 2.8.0\r\n"
        head += "Content-Type: application/json\r\nAuthorization: Bearer sk-none\r\nx-stainless-retry-count: 0\r\n"
        self._head = head.encode()
        self._tail = b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        self._traced, self._end, self._until = case == "traced", ENDS[case], until
        self._seen = b""
        self._begun = 0.0
        self.latencies: list[float] = []
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._begun = time.monotonic()
        self._seen = b""
        trace = b""
        if self._traced:
            trace = b"traceparent: 00-%032x-%016x-01\r\n" % (hash(self._begun), len(self.latencies) + 1)
        self._transport.write(self._head + trace + self._tail)

    def data_received(self, data: bytes) -> None:
        first = not self._seen
        self._seen = data if first else (self._seen[-64:] + data)
        if first and not data.startswith(b"HTTP/1.1 200 "):
            self.failed += 1
        if not self._seen.endswith(self._end):
            return
        now = time.monotonic()
        self.latencies.append(now - self._begun)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += exc is not None or not self.latencies
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, path: str, case: str, connections: int, seconds: float) -> dict[str, float]:
    """Closed-loop load; the figures."""
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    callers = [
        (await loop.create_connection(lambda: Caller(path, case, until), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(caller.done for caller in callers))
    latencies = sorted(latency for caller in callers for latency in caller.latencies)
    return {
        "calls": len(latencies),
        "failed": sum(caller.failed for caller in callers),
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
    }


async def serve(port: int) -> None:
    """The upstream, until killed."""
    server = await asyncio.get_running_loop().create_server(CannedUpstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    """Be one of the two ends."""
    if sys.argv[1] == "upstream":
        uvloop.run(serve(int(sys.argv[2])))
        return
    port, path, case, connections, seconds = sys.argv[2:7]
    print(json.dumps(uvloop.run(load(int(port), path, case, int(connections), float(seconds)))))


if __name__ == "__main__":
    main()
