"""A TCP relay of ours between a client and its Postgres that knows where each message ends, and can cut there.

Every message is told to a `Watch` before it goes on; what the watch answers is done. Framing:
https://www.postgresql.org/docs/current/protocol-message-formats.html (a byte of type, then a length; the client's
first message has no type).
"""

import socket
import threading
from collections.abc import Callable
from enum import Enum
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

CONNECT_SECONDS = 5.0


class Side(Enum):
    """Who sent a message."""

    CLIENT = "client"
    SERVER = "server"


class Move(Enum):
    """What to do with a message."""

    PASS = "pass"
    CUT_BEFORE = "cut before"
    CUT_AFTER = "cut after"


class Message(msgspec.Struct, frozen=True):
    """A message on its way. `number` counts one side's messages over all connections, from 1."""

    side: Side
    number: int
    kind: bytes  # b"" for the client's first one
    payload: bytes


Watch = Callable[[Message], Move]


class Wiretap:
    """Listens on loopback; `url` leads through it to the Postgres of the URL it was given."""

    def __init__(self, database_url: str, watch: Watch) -> None:
        self.watch = watch
        self.numbers = dict.fromkeys(Side, 0)
        self._address = _address(database_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        parts = urlsplit(database_url)
        user = quote(parts.username or "postgres") + (f":{parts.password}" if parts.password else "")
        self.url = f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable&gssencmode=disable"
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Take no more connections; returns when those that were taken have ended, as their clients do."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._threads.append(threading.Thread(target=self._relay, args=(client,), daemon=True))
            self._threads[-1].start()

    def _relay(self, client: socket.socket) -> None:
        with client:
            try:
                server = self._connect()
            except OSError:
                return  # Postgres is away
            with server:
                answering = threading.Thread(target=self._pump, args=(Side.SERVER, server, client), daemon=True)
                answering.start()
                self._pump(Side.CLIENT, client, server)
                answering.join()

    def _connect(self) -> socket.socket:
        if isinstance(self._address, tuple):
            return socket.create_connection(self._address, CONNECT_SECONDS)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._address)
        except OSError:
            server.close()
            raise
        return server

    def _pump(self, side: Side, source: socket.socket, sink: socket.socket) -> None:
        """Pass one side's messages on until its end or a cut."""
        buffer = b""
        typed = side is Side.SERVER
        try:
            while data := source.recv(65536):
                buffer += data
                while (length := _length(buffer, typed=typed)) is not None:
                    message, buffer = buffer[:length], buffer[length:]
                    if not self._pass(side, message, sink, typed=typed):
                        return
                    typed = True
        except OSError:
            return  # the other pump cut, or an end went away
        finally:
            _end(source, sink)

    def _pass(self, side: Side, message: bytes, sink: socket.socket, *, typed: bool) -> bool:
        with self._lock:
            self.numbers[side] += 1
            number = self.numbers[side]
        kind, payload = (message[:1], message[5:]) if typed else (b"", message[4:])
        move = self.watch(Message(side, number, kind, payload))
        if move is not Move.CUT_BEFORE:
            sink.sendall(message)
        return move is Move.PASS


def _length(buffer: bytes, *, typed: bool) -> int | None:
    """Of the message that `buffer` begins with; None if it isn't whole."""
    begin = 1 if typed else 0
    if len(buffer) < begin + 4:
        return None
    length = begin + int.from_bytes(buffer[begin : begin + 4], "big")
    return length if len(buffer) >= length else None


def _end(source: socket.socket, sink: socket.socket) -> None:
    """Close both ways. What was sent already is still delivered: no end is reset under it."""
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # it is closed already


def _address(database_url: str) -> tuple[str, int] | str:
    parts = urlsplit(database_url)
    options = parse_qs(parts.query)
    host = options.get("host", [parts.hostname or "127.0.0.1"])[0]
    port = int(options.get("port", [str(parts.port or 5432)])[0])
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
