"""What is told of Google's batches: an object that is polled and, at its end, may hold the answers.

The poll itself consumes nothing. What the answers consumed is told by each poll after the end, so it counts `once`.
"""

from typing import Any

import msgspec

from metering.core.dialects.batches import TIER
from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.gemini import Gemini, ModelInPath, base_name
from metering.core.dialects.totals import Totals
from metering.core.usage import Usage

_EMPTY = msgspec.Raw(b"")
_ANSWER = Gemini()


class _Item(msgspec.Struct):
    response: msgspec.Raw = _EMPTY


class _Items(msgspec.Struct):
    inlinedResponses: list[_Item] = []  # noqa: N815 - Google's name, as all below


class _Output(msgspec.Struct):
    inlinedResponses: _Items | None = None  # noqa: N815
    inlinedEmbedContentResponses: _Items | None = None  # noqa: N815


class _State(msgspec.Struct):
    model: Any = None
    output: _Output | None = None


class _Batch(msgspec.Struct):
    name: Any = None
    error: Any = None
    metadata: _State | None = None
    response: _Output | None = None


_decode_batch = msgspec.json.Decoder(_Batch).decode


class Batch(Meaning):
    """A batch as it is created and polled."""

    members = ("name",)

    def read(self, text: bytes, found: Found) -> bool:
        try:
            batch = _decode_batch(text)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        found.response_id, found.failed = word(batch.name), bool(batch.error)
        state = batch.metadata or _State()
        found.model = base_name(state.model)
        output = batch.response or state.output or _Output()
        totals = Totals()
        for items in (output.inlinedResponses, output.inlinedEmbedContentResponses):
            for item in items.inlinedResponses if items else ():
                _add(item.response, totals, found)
        found.others = tuple(totals.readings(found.response_id, TIER))
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        found.response_id = word(members.get("name"))
        found.partial = True  # there may have been answers in it

    def read_stream(self, stream: Stream, found: Found) -> bool:
        return all(self.read(text, found) for text in stream.first(1))  # it never streams

    def usage(self, found: Found) -> Usage | None:
        found.service_tier, found.idle = TIER, not found.partial
        return None


def _add(answer: msgspec.Raw, totals: Totals, batch: Found) -> None:
    found = Found(batch.provider)
    if answer and _ANSWER.read(bytes(answer), found) and (usage := _ANSWER.usage(found)) is not None:
        totals.add(found.model or batch.model, usage)


DIALECTS = (
    Dialect(
        name="gemini.batch",
        operation_name="batch",
        routes=(
            Route("POST", "{model}:batchGenerateContent"),
            Route("POST", "{model}:asyncBatchEmbedContent"),
            Route("GET", "v1beta/batches/*"),
            Route("GET", "v1alpha/batches/*"),
        ),
        consumes=None,
        meaning=Batch(),
        request=ModelInPath(),
        spoken_by="AI Studio",
        input_total="sum of the answers in it, a row a model",
        output_total="sum of the answers in it, a row a model",
        gaps="answers in a file, of more than 288 KiB, or in Vertex's buckets are not read",
    ),
)
