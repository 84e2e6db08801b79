"""What answers of SageMaker endpoints mean: whatever the container says, if it says it as OpenAI or TGI do.

Streams come in an event stream whose frames are cut anywhere; unwrapped, they are the container's own.
"""

from typing import Any

import msgspec

from metering.core.dialects.bedrock import REQUEST_ID
from metering.core.dialects.counts import count, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found
from metering.core.dialects.framing import Stream
from metering.core.dialects.openai import OpenAIChat
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage


class _Details(msgspec.Struct):
    generated_tokens: Any = None
    input_length: Any = None
    prefill: list[msgspec.Raw] = []


class _Generated(msgspec.Struct):
    details: _Details | None = None


_decode_generated = msgspec.json.Decoder(_Generated).decode


class Endpoint(OpenAIChat):
    """An answer like OpenAI's, else TGI's `details`."""

    headers = (REQUEST_ID,)

    def read_stream(self, stream: Stream, found: Found) -> bool:
        done = super().read_stream(stream, found)
        if found.raw_usage:
            return done
        return any(self.read(text, found) and found.raw_usage for text in stream.having_from_end(b'"details"'))

    def read(self, text: bytes, found: Found) -> bool:
        if not super().read(text, found):
            return False
        found.response_id = found.response_id or word(found.headers.get(REQUEST_ID))
        if found.raw_usage is None and b'"details"' in text:
            self._take_details(text, found)
        return True

    def usage(self, found: Found) -> Usage | None:
        raw = found.raw_usage or {}
        if "generated_tokens" in raw:
            return Usage(input_tokens=count(raw.get("input_length")), output_tokens=count(raw["generated_tokens"]))
        return super().usage(found)

    def _take_details(self, text: bytes, found: Found) -> None:
        try:
            details = _decode_generated(text).details
        except (msgspec.DecodeError, RecursionError, ValueError):
            return
        if details is None or (written := count(details.generated_tokens)) is None:
            return
        read = count(details.input_length)
        read = len(details.prefill) or None if read is None else read
        found.partial = read is None
        found.raw_usage = {"generated_tokens": written} | ({} if read is None else {"input_length": read})


class EndpointRequest(RequestMeaning):
    """The endpoint is what is asked for; which model it serves is not said."""

    def facts(self, model: object, stream: object, operation: Operation, *, whole: bool) -> RequestFacts:
        return super().facts(operation.model or model, stream, operation, whole=whole)


_ENDPOINT, _REQUEST = Endpoint(), EndpointRequest()
_READ, _WRITTEN = "as `openai.chat`; `details.input_length`, `prefill`", "as `openai.chat`; `details.generated_tokens`"

DIALECTS = (
    Dialect(
        name="sagemaker.invocations",
        operation_name="text_completion",
        routes=(Route("POST", "endpoints/{model}/invocations"),),
        meaning=_ENDPOINT,
        request=_REQUEST,
        spoken_by="Amazon SageMaker",
        input_total=_READ,
        output_total=_WRITTEN,
        gaps="containers of other kinds tell nothing",
    ),
    Dialect(
        name="sagemaker.invocations_stream",
        operation_name="text_completion",
        routes=(Route("POST", "endpoints/{model}/invocations-response-stream"),),
        meaning=_ENDPOINT,
        request=_REQUEST,
        streams=True,
        spoken_by="Amazon SageMaker",
        input_total=_READ,
        output_total=_WRITTEN,
        stream_usage="as the container's own",
        gaps="containers of other kinds tell nothing; nor do answers put in a bucket (`async-invocations`)",
    ),
)
