"""Do bodies of any size pass in constant memory, and does a slow reader slow its upstream down?

    python -m benchmarks.bodies --output json|table [--quick]

A relay worker of its own, spool on. 2 GB (256 MB with --quick) go each way: an answer with a length, a chunked one, a
request with a length, a chunked one. `rss_mb` is the worker's peak afterwards. Last, a client asks and does not read:
`held_mb` is what the upstream could send until it had to wait, most of it in the buffers of four kernel sockets.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection, create_server, socket

PIECE = bytes(2**20)
PATIENCE_SECONDS = 2.0
CONFIG = """
[sidecar]
listen = "127.0.0.1:{port}"
admin = "off"
[[route]]
path = "/openai"
upstream = "http://127.0.0.1:{upstream}"
provider = "openai"
"""
LENGTH, CHUNKED = b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"


class Model:
    """An upstream that swallows requests and gives answers of the size asked for. `sent` counts an answer's bytes."""

    def __init__(self) -> None:
        self._server = create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.sent = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._server.accept()
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket) -> None:
        head = read_head(connection)
        pieces = int(head.split(b" ")[1].rpartition(b"/")[2])
        swallow(connection, head)
        self.sent = 0
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
            for part in frame(pieces, chunked=b"x-chunked" in head.lower()):
                connection.settimeout(PATIENCE_SECONDS * 10)
                connection.sendall(part)
                self.sent += len(part)
        except OSError:
            pass  # the client that did not read has left


def frame(pieces: int, *, chunked: bool) -> Iterator[bytes]:
    """The end of a head and a body of that many MiB."""
    yield CHUNKED if chunked else LENGTH % (pieces * len(PIECE))
    for _ in range(pieces):
        yield b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    if chunked:
        yield b"0\r\n\r\n"


def read_head(connection: socket) -> bytes:
    """Byte by byte, so that nothing of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1) or b"\r\n\r\n"
    return head


def swallow(connection: socket, head: bytes) -> int:
    """Read a request's body to its end; its bytes on the wire."""
    lowered, taken, tail = head.lower(), 0, b""
    length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    chunked = b"transfer-encoding: chunked" in lowered
    while taken < length or (chunked and not tail.endswith(b"0\r\n\r\n")):
        data = connection.recv(2**20)
        taken, tail = taken + len(data), (tail + data)[-8:]
    return taken


def ask(port: int, pieces_up: int, pieces_down: int, *, chunked: bool) -> int:
    """One call; how many bytes came."""
    marks = b"x-chunked: 1\r\n" if chunked else b""
    with create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /openai/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s" % (pieces_down, marks))
        for part in frame(pieces_up, chunked=chunked):
            connection.sendall(part)
        read_head(connection)
        taken = 0
        while data := connection.recv(2**20):
            taken += len(data)
    return taken


def dawdle(port: int, pieces: int, model: Model) -> float:
    """Ask and don't read: MB that the upstream got rid of before it stood still."""
    with create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /openai/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % pieces)
        time.sleep(0.2)
        before = -1
        while model.sent != before:
            before = model.sent
            time.sleep(PATIENCE_SECONDS)
        return model.sent / 1e6


@contextmanager
def worker(upstream: int) -> Iterator[tuple[int, int]]:
    """A relay worker's port and process id."""
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="metering-bodies-") as folder:
        config = Path(folder, "sidecar.toml")
        config.write_text(CONFIG.format(port=port, upstream=upstream), encoding="utf-8")
        words = [sys.executable, "-m", "metering.sidecar.worker", "--state-dir", folder, "--config", str(config)]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def peak_mb(pid: int) -> float:
    """The most memory a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="256 MB each way; under 50 s")
    options = parser.parse_args()
    pieces = 256 if options.quick else 2048
    model = Model()
    with worker(model.port) as (port, pid):
        ask(port, 1, 1, chunked=False)
        figures: dict[str, dict[str, float]] = {"before": {"rss_mb": peak_mb(pid)}}
        for name, up, down, chunked in (
            ("answer", 0, pieces, False), ("answer, chunked", 0, pieces, True),
            ("request", pieces, 0, False), ("request, chunked", pieces, 0, True),
        ):  # fmt: skip
            began = time.monotonic()
            came = ask(port, up, down, chunked=chunked)
            if came < down * len(PIECE):
                raise SystemExit(f"{name}: {came:,} bytes came instead of {down * len(PIECE):,}")
            rate = round(pieces * len(PIECE) / 1e6 / (time.monotonic() - began))
            figures[name] = {"rss_mb": peak_mb(pid), "mb_per_second": rate}
        held = dawdle(port, pieces, model)
        figures["a client that does not read"] = {"rss_mb": peak_mb(pid), "held_mb": round(held, 1)}
    if options.output == "json":
        print(json.dumps({"megabytes": pieces, "cases": figures}, indent=2))
        return
    for name, row in figures.items():
        print(f"{name:30} " + "  ".join(f"{key} {value:,}" for key, value in row.items()))


if __name__ == "__main__":
    main()
