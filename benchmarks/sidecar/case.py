"""The cases: what is asked of every contestant."""

from typing import Literal

import msgspec

from benchmarks.sidecar.wire import Pace

QUIET = Pace(chunks=1000, us=10_000_000)  # an open stream that hardly says anything
FLOOD = Pace(chunks=100)
BASE = ("direct", "nginx", "sidecar")
PEERS = ("litellm", "portkey", "tensorzero")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One load, on each of `contestants` in turn."""

    name: str
    says: str
    contestants: tuple[str, ...] = BASE
    kind: Literal["calls", "streams"] = "calls"
    connections: int = 32
    pace: Pace = Pace()
    prompt_bytes: int = 2048
    beside: int = 0
    tls: bool = False
    workers: int = 1
    quick: bool = False
    warm_seconds: float | None = None  # where the usual moment is not enough
    rounds: int | None = None  # where one is as good as many

    @property
    def due_per_second(self) -> float:
        """Chunks of paced streams that are to come."""
        return self.connections * 1e6 / self.pace.us if self.kind == "streams" else 0.0


CASES = (
    Case(name="json_c1", says="2 KB → 1 KB JSON, one after the other", connections=1, contestants=(*BASE, *PEERS)),
    Case(
        name="json_c32",
        says="2 KB → 1 KB JSON, 32 at once",
        quick=True,
        contestants=(*BASE, "power", "shipping", *PEERS),
    ),
    Case(name="json_c128", says="2 KB → 1 KB JSON, 128 at once", connections=128),
    Case(
        name="stream",
        says="32 streams of 100 chunks, as fast as they are taken",
        pace=FLOOD,
        quick=True,
        contestants=(*BASE, "power", *PEERS),
    ),
    Case(
        name="paced200",
        says="200 streams, a chunk every 20 ms, evenly spread",
        kind="streams",
        connections=200,
        pace=Pace(chunks=100_000, us=20_000),
        quick=True,
    ),
    Case(
        name="burst200",
        says="200 streams, a chunk every 20 ms, 25 of them at the same moment",
        kind="streams",
        connections=200,
        pace=Pace(chunks=100_000, us=20_000, phases=8),
    ),
    Case(
        name="tls_paced200",
        says="paced200, TLS to the upstream",
        kind="streams",
        connections=200,
        pace=Pace(chunks=100_000, us=20_000),
        tls=True,
        contestants=("nginx", "sidecar"),
    ),
    Case(
        name="long200",
        says="200 streams that have said 400 chunks each: what is kept of them no longer grows",
        kind="streams",
        connections=200,
        pace=Pace(chunks=100_000, us=20_000),
        contestants=("nginx", "sidecar"),
        warm_seconds=8,
        rounds=1,
    ),
    Case(
        name="paced1000",
        says="1,000 streams, a chunk every 20 ms, evenly spread",
        kind="streams",
        connections=1000,
        pace=Pace(chunks=100_000, us=20_000),
    ),
    Case(
        name="paced1000_slow",
        says="1,000 streams, a chunk every 100 ms, evenly spread",
        kind="streams",
        connections=1000,
        pace=Pace(chunks=100_000, us=100_000),
    ),
    Case(name="open10", says="json_c32 beside 10 open streams", beside=10, contestants=("nginx", "sidecar")),
    Case(name="open1000", says="json_c32 beside 1,000 open streams", beside=1000, contestants=("nginx", "sidecar")),
    Case(name="tls", says="json_c32, TLS to the upstream", tls=True, contestants=("nginx", "sidecar")),
    Case(name="workers2", says="2 KB → 1 KB JSON, 128 at once, two workers", connections=128, workers=2),
    Case(name="prompt1mb", says="1 MB → 1 KB JSON, 8 at once", connections=8, prompt_bytes=1 << 20),
)
