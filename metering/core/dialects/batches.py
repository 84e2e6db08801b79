"""What is told of batches: calls that were handed in together, run later, and are read by their results.

The requests of a batch never pass; its usage comes with what is fetched afterwards, and mostly more than once: with the
batch itself, at each poll after its end, and with the file of its results. All of them are marked `once` under the
name of that file, so the first to be seen counts. Results are a file of lines, any number of them.
"""

from typing import Any

import msgspec

from metering.core.dialects.anthropic import AnthropicMessages
from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream
from metering.core.dialects.mistral import MistralOcr
from metering.core.dialects.one_object import NOT_THERE, OneObject
from metering.core.dialects.openai import OpenAIResponses, take_usage
from metering.core.dialects.openai_jobs import has_ended
from metering.core.dialects.quirks import TABLE, read_usage
from metering.core.dialects.reading import Reading
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.totals import Totals
from metering.core.dialects.windows import Kept
from metering.core.usage import Usage, UsageSource

TIER = "batch"
_MESSAGE, _BODY, _OCR = AnthropicMessages(), OpenAIResponses(), MistralOcr()


class _Batch(msgspec.Struct):
    """An object of OpenAI's, of those who copied it, and of Mistral's."""

    id: Any = None
    model: Any = None
    status: Any = None
    usage: Any = None
    output_file_id: Any = None
    output_file: Any = None
    outputs: msgspec.Raw = NOT_THERE


class BatchObject(OneObject[_Batch]):
    """A batch as it is created, polled or cancelled. OpenAI's has the usage of all it did; Mistral's may hold all."""

    shape = _Batch

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage
        usage = read_usage(raw, found.provider, found.model or "", found.plain) if raw else None
        if found.pending and usage is not None and any(msgspec.structs.astuple(usage)):
            usage = None  # the rest is to come, and tells this part again
        found.idle = usage is None
        return usage

    def take(self, answer: _Batch, found: Found) -> None:
        found.model = word(answer.model)
        found.response_id = word(answer.output_file_id) or word(answer.output_file) or word(answer.id)
        found.service_tier = TIER
        found.pending = not has_ended(answer.status)
        found.once = not found.pending
        take_usage(answer.usage, found)
        if answer.outputs and not found.pending:
            totals = Totals()
            for output in _decode_outputs(answer.outputs) or ():
                if output.response is not None:
                    _add_body(output.response.body, totals, found.provider)
            # The batch's own row tells that somebody looked; these tell what was consumed.
            found.others = tuple(totals.readings(found.response_id, TIER))


class _Response(msgspec.Struct):
    body: msgspec.Raw = NOT_THERE


class _Result(msgspec.Struct):
    message: msgspec.Raw = NOT_THERE


class _Line(msgspec.Struct):
    """A line of results: OpenAI's `response`, Anthropic's `result`."""

    custom_id: Any = None
    error: Any = None
    response: _Response | None = None
    result: _Result | None = None


_decode_outputs = msgspec.json.Decoder(list[_Line] | None).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_BODY_DEPTH, _LINE_START_BYTES = 3, 512


class BatchResults(Meaning):
    """A file of results, OpenAI's or Anthropic's. Any other file, and requests of a batch, tell nothing."""

    by_line = True

    def read(self, text: bytes, found: Found) -> bool:  # noqa: ARG002 - it is read by line, even if it came in one piece
        return False

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        """Lines have no members of their own."""

    def read_stream(self, stream: Stream, found: Found) -> bool:  # noqa: ARG002 - as above
        return False

    def read_line(self, line: Kept, found: Found) -> bool:
        if found.totals is None:
            found.totals = Totals()
        try:
            told = _decode_long(line) if line.dropped else _decode_line(line.head)
        except (msgspec.DecodeError, RecursionError, ValueError):
            told = _Line()
        if not isinstance(told.custom_id, str) or not (told.response or told.result or told.error):
            found.idle = not found.told  # it is another kind of file
            found.partial = found.told
            return False
        found.told = True
        if told.result is not None:
            _add(_MESSAGE, told.result.message, found.totals, found.provider)
        elif told.response is not None:
            _add_body(told.response.body, found.totals, found.provider)
        return True

    def usage(self, found: Found) -> Usage | None:
        """All that the file tells; nothing of one that was cut: whoever wants it has to fetch it again."""
        if found.totals is None or not found.final:
            return None
        readings = found.totals.readings(found.item, TIER)
        if not readings:
            found.idle = True  # errors only, or a file without results
            return None
        found.once, found.service_tier, found.model = True, TIER, readings[0].response_model
        found.others = tuple(readings[1:])
        return readings[0].usage


def _decode_long(line: Kept) -> _Line:
    """A line that was not kept whole (the numbers of many embeddings, a picture), as far as its ends tell."""
    outside = head_members(line.head, ("custom_id",))
    names, tail = ("model", "usage"), line.tail.rstrip()
    inside = head_members(line.head, names, _BODY_DEPTH) | tail_members(tail, names, _BODY_DEPTH)
    body = msgspec.Raw(msgspec.json.encode(inside))
    if b'"result"' in line.head[:_LINE_START_BYTES]:
        return _Line(custom_id=outside.get("custom_id"), result=_Result(body))
    return _Line(custom_id=outside.get("custom_id"), response=_Response(body))


def _add_body(body: msgspec.Raw, totals: Totals, provider: str) -> None:
    """Add what the body of an OpenAI-like answer tells: of a chat, a response, embeddings, pages that were read."""
    _add(_OCR if b'"usage_info"' in bytes(body) else _BODY, body, totals, provider)


def _add(meaning: Meaning, answer: msgspec.Raw, totals: Totals, provider: str) -> None:
    found = Found(provider)
    if not answer or not meaning.read(bytes(answer), found):
        return
    usage = meaning.usage(found)
    if usage is not None:
        totals.add(found.model, usage)
    for other in found.others:
        if other.usage is not None:
            totals.add(other.response_model, other.usage)


class _XaiResult(msgspec.Struct, frozen=True):
    response: dict[str, msgspec.Raw] = {}


class _XaiEntry(msgspec.Struct):
    batch_result: _XaiResult = _XaiResult()


class _XaiPage(msgspec.Struct):
    results: list[_XaiEntry] = []


class XaiBatchResults(OneObject[_XaiPage]):
    """A page of results. A later look at the same page may show more of them, so each is told by itself."""

    shape = _XaiPage

    def take(self, answer: _XaiPage, found: Found) -> None:
        answers = [each for entry in answer.results for each in entry.batch_result.response.values()]
        found.others = tuple(reading for each in answers if (reading := _read_one(each, found.provider)))
        found.pending = True  # of the batch as such nothing is told here

    def usage(self, found: Found) -> Usage | None:  # noqa: ARG002 - its answers tell, each for itself
        return None


def _read_one(answer: msgspec.Raw, provider: str) -> Reading | None:
    found = Found(provider)
    usage = _BODY.usage(found) if _BODY.read(bytes(answer), found) else None
    if usage is None:
        return None
    return Reading(
        usage=usage,
        usage_source=UsageSource.REPORTED,
        raw_usage=found.raw_usage,
        response_model=found.model,
        response_id=found.response_id,
        service_tier=TIER,
        complete=True,
        reported_cost=TABLE.cost(found.raw_usage or {}),
        once=True,
    )


_OBJECT, _RESULTS = BatchObject(), BatchResults()
_SUMMED = "sum of its answers, a row a model"

DIALECTS = (
    Dialect(
        name="openai.batches",
        operation_name="batch",
        routes=(Route("POST", "batches"), Route("GET", "batches/*"), Route("POST", "batches/*/cancel")),
        consumes=None,
        meaning=_OBJECT,
        spoken_by="OpenAI, Azure, Groq, Together, …",
        input_total="`usage.input_tokens` of all its answers, once it has ended",
        output_total="`usage.output_tokens`",
        gaps="without `usage` its result file tells",
    ),
    Dialect(
        name="openai.files.content",
        operation_name="batch",
        routes=(Route("GET", "files/{id}/content"),),
        consumes=None,
        meaning=_RESULTS,
        spoken_by="OpenAI, Azure, Mistral, …",
        input_total=_SUMMED,
        output_total=_SUMMED,
        gaps="a file that is no batch's result counts nothing, nor does one that was cut",
    ),
    Dialect(
        name="anthropic.batches",
        routes=(
            Route("POST", "messages/batches"),
            Route("GET", "messages/batches"),
            Route("GET", "messages/batches/*"),
            Route("POST", "messages/batches/*/cancel"),
        ),
        consumes=False,  # its object has no usage, only the results have
        spoken_by="Anthropic, Foundry",
    ),
    Dialect(
        name="anthropic.batches.results",
        operation_name="batch",
        routes=(Route("GET", "messages/batches/{id}/results"),),
        consumes=None,
        meaning=_RESULTS,
        spoken_by="Anthropic, Foundry",
        input_total=_SUMMED,
        output_total=_SUMMED,
        gaps="results that were cut count nothing; SDKs fetch them from `results_url`, which must pass the sidecar too",
    ),
    Dialect(
        name="mistral.batches",
        operation_name="batch",
        routes=(Route("POST", "batch/jobs"), Route("GET", "batch/jobs/*"), Route("POST", "batch/jobs/*/cancel")),
        consumes=None,
        meaning=_OBJECT,
        spoken_by="Mistral",
        input_total=_SUMMED,
        output_total=_SUMMED,
        gaps="without results in it, or with more than 288 KiB, its result file tells",
    ),
    Dialect(
        name="xai.batches",
        routes=(
            Route("POST", "batches", at="xai"),
            Route("GET", "batches/*", at="xai"),
            Route("POST", "batches/*/requests", at="xai"),
            Route("GET", "batches/*/requests", at="xai"),
            Route("POST", "batches/*:cancel", at="xai"),
        ),
        consumes=False,
        spoken_by="xAI",
    ),
    Dialect(
        name="xai.batches.results",
        operation_name="batch",
        routes=(Route("GET", "batches/*/results", at="xai"),),
        consumes=None,
        meaning=XaiBatchResults(),
        spoken_by="xAI",
        input_total="a row an answer",
        output_total="a row an answer",
        gaps="a page over 288 KiB tells nothing",
    ),
)
