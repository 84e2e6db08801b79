"""What Mistral's own answers mean: pages that were read."""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, usage_object, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found
from metering.core.dialects.one_object import OneObject
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage


class _Answer(msgspec.Struct):
    model: Any = None
    usage_info: Any = None
    error: Any = None


class MistralOcr(OneObject[_Answer]):
    """A document's pages as text."""

    shape = _Answer

    def usage(self, found: Found) -> Usage | None:
        pages = count((found.raw_usage or {}).get("pages_processed"))
        return Usage(input_pages=pages) if pages is not None else None

    def take(self, answer: _Answer, found: Found) -> None:
        found.model = word(answer.model) or found.model
        found.failed = found.failed or bool(answer.error)
        found.raw_usage = usage_object(answer.usage_info) or found.raw_usage


class _OcrRequest(RequestMeaning):
    """Whether pages are to be annotated as well, which costs more."""

    members = ("model", "stream", "document_annotation_format", "bbox_annotation_format")

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:
        facts = super().read(members, operation, whole=whole)
        annotated = members.get("document_annotation_format") or members.get("bbox_annotation_format")
        return msgspec.structs.replace(facts, variant="annotated" if annotated else None)


DIALECTS = (
    Dialect(
        name="mistral.ocr",
        operation_name="ocr",
        routes=(Route("POST", "ocr"),),
        meaning=MistralOcr(),
        request=_OcrRequest(),
        spoken_by="Mistral, Azure",
        also_counts="pages; whether they were annotated",
    ),
)
