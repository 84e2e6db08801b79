"""What a request body says: its model, and whether it asks for a stream."""

from typing import Any

import msgspec

from metering.core.dialects.dialect import MODEL_AND_STREAM, RequestMeaning
from metering.core.dialects.multipart import form_fields, is_form
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.dialects.scan import head_members, tail_members
from metering.core.dialects.table import DIALECTS

_REQUESTS = {dialect.name: dialect.request for dialect in DIALECTS.values()}


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_request(operation: Operation, body: bytes, tail: bytes = b"") -> RequestFacts:
    """The facts in `body`, JSON or a form, or in its two ends when `tail` holds the last bytes of a longer body.

    Never raises. Give both ends: SDKs write `model` and `stream` after the messages. A body that was cut
    says less, not something wrong.
    """
    meaning = _REQUESTS.get(operation.dialect, MODEL_AND_STREAM)
    if not tail:
        try:
            if meaning.members is RequestMeaning.members:  # nearly all
                decoded = _decode(body)
                return meaning.facts(decoded.model, decoded.stream, operation, whole=True)
            return meaning.read(_whole_members(body, meaning.members), operation, whole=True)
        except (msgspec.DecodeError, RecursionError, ValueError):
            pass
    if is_form(body):
        fields, whole = form_fields(body, tail, meaning.members)
        return meaning.read(_typed(fields), operation, whole=whole)
    members = head_members(body, meaning.members) | (tail_members(tail, meaning.members) if tail else {})
    return meaning.read(members, operation, whole=False)


def _whole_members(body: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    found = _decode_members(body)
    return {name: msgspec.json.decode(found[name]) for name in names if name in found}


def _typed(fields: dict[str, str]) -> dict[str, Any]:
    """A form knows text only: what stands for a JSON boolean or a whole number becomes one."""
    return {name: {"true": True, "false": False}.get(text.lower(), _number(text)) for name, text in fields.items()}


def _number(text: str) -> int | str:
    return int(text) if len(text) < 8 and text.isascii() and text.isdigit() else text
