"""What a request body says: its model, and whether it asks for a stream."""

from typing import Any

import msgspec

from metering.core.dialects.counts import word
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.dialects.scan import head_members, tail_members

# Where a missing `stream` means yes: https://docs.ollama.com/api
STREAMED_BY_DEFAULT = frozenset({"ollama.chat", "ollama.generate"})
_NAMES = ("model", "stream")


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def read_request(operation: Operation, body: bytes, tail: bytes = b"") -> RequestFacts:
    """The facts in `body`, or in its two ends when `tail` holds the last bytes of a longer body.

    Never raises. Give both ends: SDKs write `model` and `stream` after the messages. A body that was cut
    says less, not something wrong.
    """
    whole = not tail
    try:
        decoded = _decode(body) if whole else None
    except (msgspec.DecodeError, RecursionError, ValueError):
        decoded = None
    if decoded is not None:
        model, stream = decoded.model, decoded.stream
    else:
        members = head_members(body, _NAMES) | (tail_members(tail, _NAMES) if tail else {})
        model, stream = members.get("model"), members.get("stream")
    if decoded is not None and stream is None:
        stream = operation.dialect in STREAMED_BY_DEFAULT
    return RequestFacts(word(model) or operation.model, stream if isinstance(stream, bool) else None)
