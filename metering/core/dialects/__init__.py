"""Dialects: what a model's answer says about the tokens it took, read from its bytes without any I/O.

operation = classify("POST", "/v1/chat/completions")
reader = open_reader(operation, status=200, content_type="text/event-stream", content_encoding="")
reader.feed(chunk)  # as the chunks come; nothing is parsed yet
reading = reader.finish()
"""

from metering.core.dialects.dialect import Dialect
from metering.core.dialects.readers import MEANINGS, SESSIONS, fill_in, open_reader, open_session, read_whole
from metering.core.dialects.reading import NO_HEADERS, Operation, Reader, Reading, RequestFacts
from metering.core.dialects.request import read_request
from metering.core.dialects.routes import ask_query, classify
from metering.core.dialects.sessions import Session
from metering.core.dialects.table import DIALECTS
from metering.core.dialects.windows import Allowance, Held, Kept, Windows

__all__ = [
    "DIALECTS",
    "MEANINGS",
    "NO_HEADERS",
    "SESSIONS",
    "Allowance",
    "Dialect",
    "Held",
    "Kept",
    "Operation",
    "Reader",
    "Reading",
    "RequestFacts",
    "Session",
    "Windows",
    "ask_query",
    "classify",
    "fill_in",
    "open_reader",
    "open_session",
    "read_request",
    "read_whole",
]
