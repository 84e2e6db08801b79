"""What a worker counts for its operator. Plain integers; the supervisor adds the workers up."""

import msgspec

from metering.core.event import Outcome


class Tally(msgspec.Struct):
    """Counters since the worker began, and gauges of this moment."""

    calls: dict[str, int] = msgspec.field(default_factory=lambda: {outcome.value: 0 for outcome in Outcome})
    unmetered_calls: int = 0  # forwarded, and no record of them could be written
    late_finals: int = 0  # finals the spool could not write at once
    refused_requests: int = 0  # answered by the sidecar itself; never forwarded
    upstream_retries: int = 0  # sent again because a pooled connection had gone stale
    calls_in_flight: int = 0
    client_connections: int = 0
    upstream_connections: int = 0
    spool_bytes: int = 0
    spool_corrupt_records: int = 0
    spool_degraded: int = 0
