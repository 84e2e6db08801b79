"""What does metering a realtime session cost a relay, a frame?

    python -m benchmarks.sessions --output json|table [--quick]

`reading`: µs of CPU that a session's reader takes for a frame that comes by itself, the best of several rounds: sound
of three sizes, plain and compressed, and the end of a turn. `relay`: µs of a worker's CPU for a frame of sound and a
client's frame in return, one at a time, in a session that is metered and in a tunnel that is not, in turns.
"""

import argparse
import base64
import json
import os
import random
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from socket import create_connection, create_server, socket
from typing import Any

from benchmarks.bodies import read_head, worker
from metering.core.dialects import Operation, open_session
from metering.jobs.reframe import frame

SOUND_BYTES = (400, 4_000, 16_000)
FRAMES, ROUNDS = 2_000, 7
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ASK = b"GET /openai/v1/%s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
COMPRESSED = 0xC0
PATHS = {"metered": b"realtime?model=m", "tunnel": b"chatter"}


def sound(size: int) -> str:
    """Speech is noise to a compressor."""
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()


def openai_sound(size: int) -> bytes:
    """A piece of an answer, as OpenAI sends it."""
    names = {"event_id": "event_1", "response_id": "resp_1", "item_id": "item_1", "output_index": 0}
    return json.dumps({"type": "response.output_audio.delta", **names, "delta": sound(size)}).encode()


def gemini_sound(size: int) -> bytes:
    """The same as Google sends it."""
    parts = [{"inlineData": {"mimeType": "audio/pcm", "data": sound(size)}}]
    return json.dumps({"serverContent": {"modelTurn": {"parts": parts}}}).encode()


def end_of_turn() -> bytes:
    """The message that tells usage. Without an id it counts each time."""
    inside = {"text_tokens": 40, "audio_tokens": 26, "cached_tokens": 0}
    usage = {"input_tokens": 66, "output_tokens": 97, "total_tokens": 163, "input_token_details": inside}
    return json.dumps({"type": "response.done", "response": {"status": "completed", "usage": usage}}).encode()


def read_frame(dialect: str, wire: bytes, extensions: str = "", *, client: bool = False) -> float:
    """µs of CPU a frame."""
    rounds = []
    for _ in range(ROUNDS):
        session = open_session(Operation(dialect, "chat", consumes=True), extensions=extensions, told=lambda: None)
        if session is None:
            raise SystemExit(f"{dialect} has no sessions")
        feed: Callable[[bytes], None] = session.feed_client if client else session.feed
        began = time.process_time()
        for _ in range(FRAMES):
            feed(wire)
        rounds.append((time.process_time() - began) / FRAMES * 1e6)
    return round(min(rounds), 2)


def measure_reading() -> dict[str, float]:
    """Case → µs a frame."""
    figures = {"end of a turn": read_frame("openai.realtime_ws", frame(end_of_turn()))}
    for size in SOUND_BYTES:
        text = openai_sound(size)
        deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        squeezed = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        alone = "permessage-deflate; server_no_context_takeover"
        figures |= {
            f"OpenAI, {size:,} B of sound": read_frame("openai.realtime_ws", frame(text)),
            f"Gemini, {size:,} B of sound": read_frame("gemini.live_ws", frame(gemini_sound(size))),
            f"compressed, {size:,} B": read_frame("openai.realtime_ws", frame(squeezed, flags=COMPRESSED), alone),
            f"of a client, {size:,} B": read_frame("openai.realtime_ws", frame(text, mask=b"mask"), client=True),
        }
    return figures


class Server:
    """Answers each frame of a client with one of sound."""

    def __init__(self, reply: bytes) -> None:
        self._server = create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._reply = reply
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                read_head(connection)
                connection.sendall(SWITCH)
                while connection.recv(65536):
                    connection.sendall(self._reply)


def cpu_seconds(pid: int) -> float:
    """What a process took so far."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / float(os.sysconf("SC_CLK_TCK"))


def exchange(connection: socket, asked: bytes, reply_bytes: int, times: int) -> None:
    """A frame there and one back, one after the other."""
    for _ in range(times):
        connection.sendall(asked)
        left = reply_bytes
        while left:
            left -= len(connection.recv(left))


def measure_relay(times: int, rounds: int) -> dict[str, float]:
    """Path → µs of a worker's CPU for a frame there and one back: the least of the rounds."""
    reply, asked = frame(openai_sound(4_000)), frame(b'{"type":"ping"}', mask=b"mask")
    server = Server(reply)
    taken: dict[str, list[float]] = {name: [] for name in PATHS}
    with worker(server.port) as (port, pid):
        for _ in range(rounds):
            for name, path in PATHS.items():
                with create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(ASK % path)
                    read_head(connection)
                    exchange(connection, asked, len(reply), times // 10)
                    before = cpu_seconds(pid)
                    exchange(connection, asked, len(reply), times)
                    taken[name].append((cpu_seconds(pid) - before) / times * 1e6)
    return {name: round(min(figures), 1) for name, figures in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; under 50 s")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "reading": measure_reading(),
        "relay": measure_relay(10_000, 3 if options.quick else 9),
    }
    if options.output == "json":
        print(json.dumps(figures, indent=2))
        return
    for part, rows in figures.items():
        for name, value in rows.items():
            print(f"{part:8} {name:28} {value:8} µs")


if __name__ == "__main__":
    main()
