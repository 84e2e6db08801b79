"""Texts: what a model read and wrote, found in the JSON of a request and of an answer, of whatever dialect.

read = read_texts(parse(request_body))
written = written_texts(payloads(kept, content_type))
"""

from metering.core.texts.answer import written_texts
from metering.core.texts.payloads import payloads
from metering.core.texts.request import read_texts
from metering.core.texts.rows import Kind, Texts

__all__ = ["Kind", "Texts", "payloads", "read_texts", "written_texts"]
