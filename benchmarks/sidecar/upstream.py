"""The emulated model of the benchmark: canned answers from one loop over raw sockets.

    python -m benchmarks.sidecar.upstream PORT [CERTIFICATE KEY]

`metering emulate` answers every dialect and costs more a chunk than the proxies that are measured here. This one
does one thing: no framework, no task, one timed queue for all streams, chunks filled into a form.
"""

import gc
import heapq
import resource
import select
import socket
import ssl
import sys
import time
from collections import deque

from benchmarks.sidecar.wire import (
    JSON_ANSWER,
    STREAM_HEAD,
    STREAM_LAST,
    Pace,
    content_length,
    read_pace,
    stamped_chunk,
)

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
KEPT_BYTES = 8192  # of a request: more than its head and its directive
GOLDEN = 0.6180339887498949  # multiples of it are spread evenly over a period, however many there are


class Connection:
    """One client of the upstream: requests one after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pace = Pace()
        self.left = 0  # chunks to come
        self.open = True
        self._begin()

    def _begin(self) -> None:
        self._kept, self._seen, self._length = b"", 0, 0

    def read(self) -> bool:
        """Take what came; whether a request is complete."""
        try:
            data = self.sock.recv(1 << 18)
            while isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
                data += self.sock.recv(1 << 18)
        except WOULD_BLOCK:
            return False
        except OSError:
            data = b""
        if not data:
            self.open = False
            return False
        self._seen += len(data)
        if len(self._kept) < KEPT_BYTES:
            self._kept += data
        if not self._length:
            end = self._kept.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            length = content_length(self._kept[:end])
            self._length = -1 if length is None else end + length
        complete = data.endswith(b"0\r\n\r\n") if self._length < 0 else self._seen >= self._length
        if complete:
            self.pace = read_pace(self._kept)
            self._begin()
        return complete

    def send(self, data: bytes) -> bool:
        """Send now; False if the other side does not take it. Answers are small: half a send does not happen."""
        try:
            return self.sock.send(data) == len(data)
        except WOULD_BLOCK:
            return False
        except OSError:
            self.open = False
            return True


class Upstream:
    """Serves all connections of one port."""

    def __init__(self, listener: socket.socket, trust: ssl.SSLContext | None) -> None:
        self._listener, self._trust = listener, trust
        self._poll = select.epoll()
        self._poll.register(listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._flooded: deque[Connection] = deque()  # streams without a pace
        self._due: list[tuple[int, int, Connection]] = []  # a heap of the others: due at (ns), a number, whose
        self._streams = 0

    def run(self) -> None:
        """Serve until killed."""
        while True:
            wait = 0.0 if self._flooded else 1.0
            if self._due and wait:
                wait = (self._due[0][0] - time.monotonic_ns()) / 1e9
                if wait > 0:  # epoll counts in ms, select in us
                    select.select([self._poll], [], [], min(wait, 1.0))
                wait = 0.0
            for fd, _ in self._poll.poll(wait):
                self._ready(fd)
            if self._due:
                self._send_due()
            if self._flooded:
                self._flood()

    def _ready(self, fd: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:
            self._accept()
        elif connection.read():
            self._answer(connection)
        elif not connection.open:
            self._poll.unregister(fd)
            del self._connections[fd]
            connection.sock.close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._trust is not None:
            try:
                sock = self._trust.wrap_socket(sock, server_side=True)
            except OSError:
                return  # whoever looked whether we listen
        sock.settimeout(0)
        self._connections[sock.fileno()] = Connection(sock)
        self._poll.register(sock, select.EPOLLIN)

    def _answer(self, connection: Connection) -> None:
        pace = connection.pace
        if not pace.chunks:
            connection.send(JSON_ANSWER)
            return
        connection.send(STREAM_HEAD)
        connection.left = pace.chunks
        if pace.us:
            self._stamp(connection, time.monotonic_ns())
            self._pace(connection)
        else:
            self._flooded.append(connection)

    def _pace(self, connection: Connection) -> None:
        """Give a stream its place in the clock's own periods, so that those of a group meet."""
        pace = connection.pace
        self._streams += 1
        phase = self._streams % pace.phases / pace.phases if pace.phases else self._streams * GOLDEN % 1
        now, period = time.monotonic_ns(), pace.us * 1000
        due = now - now % period + int((1 + phase) * period)
        heapq.heappush(self._due, (due, self._streams, connection))

    def _stamp(self, connection: Connection, due_ns: int) -> None:
        if connection.send(stamped_chunk(time.monotonic_ns(), due_ns)):
            connection.left -= 1
            if not connection.left:
                connection.send(STREAM_LAST)

    def _send_due(self) -> None:
        """Send every chunk whose time has come.

        One that is not taken, or was due more than a period ago, is left out, and `kept_up` tells.
        """
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            due, number, connection = self._due[0]
            self._stamp(connection, due)
            if connection.left and connection.open:
                period = connection.pace.us * 1000
                heapq.heapreplace(self._due, (due + period * (1 + (now - due) // period), number, connection))
            else:
                heapq.heappop(self._due)

    def _flood(self) -> None:
        """One chunk to each stream, as a model decodes a batch."""
        for _ in range(len(self._flooded)):
            connection = self._flooded.popleft()
            now = time.monotonic_ns()
            self._stamp(connection, now)
            if connection.left and connection.open:
                self._flooded.append(connection)


def main() -> None:
    """Listen on 127.0.0.1."""
    gc.disable()  # nothing here makes cycles
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port, *files = sys.argv[1:]
    trust = None
    if files:
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trust.load_cert_chain(*files)
        trust.set_alpn_protocols(["http/1.1"])
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=2048)
    Upstream(listener, trust).run()


if __name__ == "__main__":
    main()
