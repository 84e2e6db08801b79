"""Tools that ran on the provider's side while a response was made: they are billed and stand in no usage object."""

from collections.abc import Mapping
from typing import Any

import msgspec

from metering.core.dialects.found import NO_COUNTS

# Items of a response that a tool on the provider's side made; a `function_call` is the client's own.
TOOLS = {
    "web_search_call": "web_search_requests",
    "file_search_call": "file_search_requests",
    "code_interpreter_call": "code_execution_requests",
    "image_generation_call": "output_images",
    "mcp_call": "tool_requests",
}


class _Item(msgspec.Struct):
    type: Any = None


_decode_items = msgspec.json.Decoder(list[_Item]).decode


def count_tools(output: msgspec.Raw) -> Mapping[str, int]:
    """The tools that ran on the provider's side, by field of `Usage`."""
    if bytes(output).rfind(b'_call"') < 0:  # twice as fast as `in`
        return NO_COUNTS
    counted: dict[str, int] = {}
    try:
        for item in _decode_items(output):
            if isinstance(item.type, str) and (field := TOOLS.get(item.type)):
                counted[field] = counted.get(field, 0) + 1
    except (msgspec.DecodeError, RecursionError, ValueError):
        return NO_COUNTS
    return counted
