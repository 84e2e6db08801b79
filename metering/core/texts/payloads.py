"""The JSON values of an answer's kept bytes, all of them: a document, or the frames of a stream."""

from collections.abc import Iterator
from typing import Any

from metering.core.dialects.event_stream import unwrap
from metering.core.dialects.framing import Framing, Stream, sniff
from metering.core.dialects.scan import parse
from metering.core.dialects.windows import BOM, Kept


def payloads(kept: Kept, content_type: str) -> Iterator[Any]:
    """Each JSON value; what is cut or no JSON is left out."""
    framing = sniff(kept.head, content_type)
    if framing is Framing.EVENT_STREAM:
        unwrapped = unwrap(kept)
        kept, framing = unwrapped.kept, unwrapped.framing
    if framing is Framing.JSON:
        value = None if kept.dropped else parse(kept.head.removeprefix(BOM))
        if value is not None:
            yield from value if isinstance(value, list) else (value,)
            return
        framing = Framing.NDJSON
    for text in Stream(kept, framing).every():
        value = parse(text)
        if value is not None:
            yield value
