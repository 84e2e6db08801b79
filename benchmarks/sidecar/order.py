"""What a load generator is told, and what it tells: one JSON document each way."""

from typing import Literal

import msgspec

from benchmarks.sidecar.wire import Pace


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one contestant.

    `calls` asks again as soon as an answer is complete; `streams` opens paced streams and reads them.
    """

    port: int
    path: str
    model: str
    headers: dict[str, str]
    kind: Literal["calls", "streams"]
    connections: int
    pace: Pace
    prompt_bytes: int
    beside: int  # open streams that hardly say anything, beside the calls
    beside_pace: Pace
    warm_seconds: float
    seconds: float
    pids: dict[str, list[int]]  # role → processes whose CPU is taken


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in the window of `seconds`."""

    seconds: float
    calls: int
    answered: int  # to the end since the load began
    chunks: int
    failed: int
    reads: int  # of the load: how far chunks came one by one
    cpu_ns: dict[str, int]  # by role; `load` is the generator itself
    rss_mb: float  # the largest of the role `proxy`, while all is open
    pss_mb: float
    whole_us: tuple[float, float]  # p50, p99 of whole answers; zeros where there are none
    first_us: tuple[float, float]  # of first bytes
    chunk_us: tuple[float, float]  # of chunks, from sent to received
    late_us: tuple[float, float]  # of the upstream: from due to sent
