"""The clients of the benchmark: one loop over raw sockets, which also takes the proxies' CPU in its window.

    python -m benchmarks.sidecar.load ORDER

ORDER is an `Order` as JSON; a `Told` is printed as JSON.
"""

import gc
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Sequence

import msgspec

from benchmarks.sidecar.gauge import cpu_ns, memory_mb
from benchmarks.sidecar.order import Order, Told
from benchmarks.sidecar.wire import MARK, STAMP, STREAM_END, content_length, request

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
SUCCESS = b"HTTP/1.1 200 "


class Seen:
    """What all connections see, while `on`."""

    def __init__(self) -> None:
        self.on = False
        self.calls = self.failed = self.reads = self.marks = 0
        self.whole: list[int] = []  # ns
        self.first: list[int] = []
        self.stamps: list[tuple[int, list[tuple[bytes, bytes]]]] = []  # received at, and what the chunks say


class Caller:
    """One connection that asks, reads the whole answer, and asks again."""

    def __init__(self, port: int, asks: bytes, seen: Seen, *, again: bool = True) -> None:
        self._port, self._asks, self._seen, self._again = port, asks, seen, again
        self.answers = 0
        self.begun = False  # the answer
        self.connect()

    def connect(self) -> None:
        """Dial."""
        self.sock = socket.create_connection(("127.0.0.1", self._port), CONNECT_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(0)
        self._unsent = memoryview(b"")

    def ask(self) -> bool:
        """Send the request; False if some of it is left."""
        self.begun = False
        self._head, self._tail, self._left = b"", b"", -1
        self._asked_at = time.monotonic_ns()
        self._unsent = memoryview(self._asks)
        return self.send()

    def send(self) -> bool:
        """Send what is unsent; False if some is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:
            pass  # the reading side will see it
        return True

    def read(self) -> bool | None:
        """Take what came. True: the answer is complete. None: the connection is gone."""
        try:
            data = self.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        seen, now = self._seen, time.monotonic_ns()
        if not data:
            return None
        seen.reads += seen.on
        if not self.begun:
            self.begun = True
            if seen.on:
                seen.first.append(now - self._asked_at)
        if not self._take(data):
            return False
        if seen.on:
            seen.calls += 1
            seen.whole.append(now - self._asked_at)
        self.answers += 1
        return True

    def _take(self, data: bytes) -> bool:
        """Whether the answer is complete."""
        if self._left < 0:  # the head is not whole
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            if not self._head.startswith(SUCCESS):
                self._seen.failed += 1
            data = self._head[end:]
            length = content_length(self._head[:end])
            self._left = 1 << 60 if length is None else length
        if self._seen.on and self._left > 1 << 50:
            self._seen.marks += data.count(MARK)
        self._left -= len(data)
        self._tail = (self._tail + data)[-len(STREAM_END) :]
        return self._left == 0 or self._tail == STREAM_END


class Listener(Caller):
    """One paced stream: every chunk's time of arrival is kept."""

    def _take(self, data: bytes) -> bool:
        seen = self._seen
        if seen.on:
            seen.stamps.append((time.monotonic_ns(), STAMP.findall(data)))
        return False


class Load:
    """Runs an order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._seen = Seen()
        self._poll = select.epoll()
        self._callers: dict[int, Caller] = {}

    def run(self) -> Told:
        """Open everything, warm up, measure a window."""
        order, seen, beside = self._order, self._seen, Seen()
        kind = Caller if order.kind == "calls" else Listener
        asks = {
            pace: request(order.path, order.model, order.headers, pace, order.prompt_bytes)
            for pace in (order.pace, order.beside_pace)
        }
        callers = [Caller(order.port, asks[order.beside_pace], beside) for _ in range(order.beside)]
        self._open(callers)
        callers = [kind(order.port, asks[order.pace], seen) for _ in range(order.connections)]
        self._open(callers)
        self._turn(order.warm_seconds)
        seen.on = True
        began, used = time.monotonic_ns(), self._cpu()
        self._turn(order.seconds)
        spent = {
            role: sum(ns - used[role][pid] for pid, ns in now.items() if pid in used[role])
            for role, now in self._cpu().items()
        }
        seconds = (time.monotonic_ns() - began) / 1e9
        seen.on = False
        memory = [memory_mb(pid) for pid in order.pids.get("proxy", [])] or [(0.0, 0.0)]
        seen.failed += beside.failed + sum(not (caller.begun or caller.answers) for caller in callers)
        answered = sum(caller.answers for caller in self._callers.values())
        return _tell(seen, answered, seconds, spent, max(memory))

    def _cpu(self) -> dict[str, dict[int, int]]:
        return {role: cpu_ns(pids) for role, pids in self._order.pids.items()} | {"load": cpu_ns([os.getpid()])}

    def _open(self, callers: Sequence[Caller]) -> None:
        """All ask, and the first bytes of all answers are awaited."""
        for number, caller in enumerate(callers):
            self._callers[caller.sock.fileno()] = caller
            self._poll.register(caller.sock, select.EPOLLIN)
            self._ask(caller)
            if number % 16 == 15:  # a burst of a thousand would overflow somebody's queue of connections
                self._turn(0.001)
        until = time.monotonic() + ANSWER_SECONDS
        while not all(caller.begun or caller.answers for caller in callers):
            self._turn(0.01)
            if time.monotonic() > until:
                raise SystemExit(f"not every call was answered within {ANSWER_SECONDS:.0f} s")

    def _turn(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        poll, callers = self._poll.poll, self._callers
        while (left := until - time.monotonic()) > 0:
            for fd, events in poll(left):
                caller = callers[fd]
                if events & select.EPOLLOUT and caller.send():
                    self._poll.modify(fd, select.EPOLLIN)
                if events & ~select.EPOLLOUT:
                    self._read(caller)

    def _read(self, caller: Caller) -> None:
        complete = caller.read()
        if complete:
            self._ask(caller)
        elif complete is None:
            self._redial(caller)

    def _ask(self, caller: Caller) -> None:
        if not caller.ask():
            self._poll.modify(caller.sock, select.EPOLLIN | select.EPOLLOUT)

    def _redial(self, caller: Caller) -> None:
        """A connection was closed: that is allowed between two answers, never within one."""
        if caller.begun and not caller.answers:
            self._seen.failed += 1
        del self._callers[caller.sock.fileno()]
        caller.sock.close()
        caller.connect()
        self._callers[caller.sock.fileno()] = caller
        self._poll.register(caller.sock, select.EPOLLIN)
        self._ask(caller)


def _tell(seen: Seen, answered: int, seconds: float, spent: dict[str, int], memory: tuple[float, float]) -> Told:
    latencies, late = [], []
    for received, stamps in seen.stamps:
        for sent, due in stamps:
            latencies.append(received - int(sent))
            late.append(int(sent) - int(due))
    return Told(
        seconds=seconds,
        calls=seen.calls,
        answered=answered,
        chunks=len(latencies) or seen.marks // 2,
        failed=seen.failed,
        reads=seen.reads,
        cpu_ns=spent,
        rss_mb=memory[0],
        pss_mb=memory[1],
        whole_us=_percentiles(seen.whole),
        first_us=_percentiles(seen.first),
        chunk_us=_percentiles(latencies),
        late_us=_percentiles(late),
    )


def _percentiles(latencies_ns: list[int]) -> tuple[float, float]:
    """p50 and p99 in us."""
    if not latencies_ns:
        return 0.0, 0.0
    latencies_ns.sort()
    return latencies_ns[len(latencies_ns) // 2] / 1e3, latencies_ns[len(latencies_ns) * 99 // 100] / 1e3


def main() -> None:
    """Run the order of the command line."""
    gc.disable()  # nothing here makes cycles
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    order = msgspec.json.decode(sys.argv[1], type=Order)
    sys.stdout.write(msgspec.json.encode(Load(order).run()).decode())


if __name__ == "__main__":
    main()
