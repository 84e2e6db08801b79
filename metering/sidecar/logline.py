"""One structured line a happening, to stderr. Never a secret, a path's query or a body."""

import contextlib
import sys
from datetime import UTC, datetime

import msgspec

_ENCODER = msgspec.json.Encoder()


def log(happening: str, **fields: str | float | None) -> None:
    """Write `{"at": …, "happening": …, …}`. JSON escapes whatever a peer put into a value."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = _ENCODER.encode({"at": at, "happening": happening, **fields})
    with contextlib.suppress(OSError):  # whoever read it is gone: no reason to stop
        sys.stderr.buffer.write(line + b"\n")
        sys.stderr.buffer.flush()
