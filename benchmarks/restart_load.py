"""Traffic that tolerates nothing, and the model server behind it: for `benchmarks.restarts` and its test.

Clients of three kinds call a sidecar until told to stop: over kept connections (some pause between calls), over a new
connection each, and streams. Nothing is ever sent twice: a call whose answer isn't whole, byte by byte, has failed.
A kept connection is given up when its answer said so or its end was seen before the next request, as HTTP clients do.
"""

import asyncio
import random
from collections import Counter
from pathlib import Path

import msgspec

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"%s"}]%s}'
JSON_REQUEST = BODY % (b"hello " * 100, b"")
STREAM_REQUEST = BODY % (b"hello " * 100, b',"stream":true')
USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17}'
ANSWER = b'{"id":"c-1","object":"chat.completion","model":"gpt-4o-mini","choices":[],%s}' % USAGE
EVENT = b'data: {"id":"c-1","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'
LAST = b'data: {"id":"c-1","model":"gpt-4o-mini","choices":[],%s}\n\ndata: [DONE]\n\n' % USAGE
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = 40
CHUNK_SECONDS = 0.02
CALL_SECONDS = 60.0
STREAM_BODY = b"".join(b"%x\r\n%s\r\n" % (len(data), data) for data in [EVENT] * CHUNKS + [LAST]) + b"0\r\n\r\n"


class Traffic:
    """What was called, and what came of it."""

    def __init__(self, seed: int) -> None:
        self.stopping = False
        self.calls: Counter[str] = Counter()  # by kind of client
        self.failures: list[str] = []
        self.trace_ids: list[str] = []
        self.received: Counter[str] = Counter()  # by trace id, at the model server
        self._seed = seed

    async def run(self, port: int, *, kept: int, pausing: int, fresh: int, streams: int) -> None:
        """So many clients of each kind, until `stopping`."""
        kinds = ["kept"] * kept + ["pausing"] * pausing + ["fresh"] * fresh + ["stream"] * streams
        clients = [
            Client(self, port, kind, random.Random(f"{self._seed} {number}")) for number, kind in enumerate(kinds)
        ]
        await asyncio.gather(*(client.run() for client in clients))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The model server's side of one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(_header(head, b"content-length")))
                self.received[_header(head, b"traceparent").split(b"-")[1].decode()] += 1
                if not body.endswith(b'"stream":true}'):
                    writer.write(JSON_HEAD + ANSWER)
                    continue
                writer.write(STREAM_HEAD)
                for _ in range(CHUNKS):
                    writer.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
                    await asyncio.sleep(CHUNK_SECONDS)
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(LAST), LAST))
        except (asyncio.IncompleteReadError, OSError):
            pass  # the sidecar closed an idle connection
        finally:
            writer.close()


class Client:
    """Calls one after the other."""

    def __init__(self, traffic: Traffic, port: int, kind: str, dice: random.Random) -> None:
        self._traffic, self._port, self._kind, self._dice = traffic, port, kind, dice
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Until the traffic stops."""
        traffic = self._traffic
        while not traffic.stopping:
            trace_id = f"{self._dice.getrandbits(128) | 1:032x}"
            traffic.trace_ids.append(trace_id)
            traffic.calls[self._kind] += 1
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._call(trace_id)
            except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
                traffic.failures.append(f"{self._kind}: {type(error).__name__}: {error} ({trace_id})")
                self._close()
            # Short pauses keep the two ends from being all the load; long ones leave connections idle over a restart.
            await asyncio.sleep(self._dice.uniform(0, 2.0) if self._kind == "pausing" else self._dice.uniform(0, 0.02))
        self._close()

    async def _call(self, trace_id: str) -> None:
        if self._connection is None or self._connection[0].at_eof():
            self._close()
            self._connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._connection
        streams = self._kind == "stream"
        body = STREAM_REQUEST if streams else JSON_REQUEST
        writer.write(
            b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: sidecar\r\nContent-Type: application/json\r\n"
            b"traceparent: 00-%s-0000000000000001-01\r\nContent-Length: %d\r\n\r\n"
            % (trace_id.encode(), len(body))
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        expected = STREAM_BODY if streams else ANSWER
        answer = await reader.readexactly(len(expected))
        if not head.startswith(b"HTTP/1.1 200 ") or answer != expected:
            raise ValueError(f"not the answer: {head!r} {answer[:200]!r}")
        if self._kind == "fresh" or b"connection: close" in head.lower():
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


class _Row(msgspec.Struct):
    trace_id: str | None = None
    outcome: str = ""
    usage: dict[str, int] | None = None


def read_rows(spool_dir: Path) -> Counter[str]:
    """The rows in all spools below a folder by trace id; those that aren't a completed call with its usage as `""`."""
    decode = msgspec.json.Decoder(_Row).decode
    rows: Counter[str] = Counter()
    for path in spool_dir.glob("worker-*/*.seg"):
        for line in path.read_bytes().splitlines():
            _, _, kind, payload = line.split(b" ", 3)
            if kind == b"F":
                row = decode(payload)
                whole = row.outcome == "completed" and (row.usage or {}).get("output_tokens") == 5
                rows[(row.trace_id or "") if whole else ""] += 1
    return rows


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    raise ValueError(f"no {name!r} in {head!r}")
