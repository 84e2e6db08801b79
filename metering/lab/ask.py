"""What a request asks the emulated model for: counts from `x-emulate-*` headers, else counted words.

One word is one token. A header always wins, so a test or a replay gets exactly the usage it asks for.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec

DEFAULT_OUTPUT_TOKENS = 12
DEFAULT_CHUNKS = 8
# More words than this are never put into one answer in `short` mode; the usage stays what was asked for.
SHORT_WORDS = 24


class Fault(StrEnum):
    """How an answer goes wrong on purpose."""

    CUT = "cut"  # the connection closes half way
    STALL = "stall"  # half of the answer, then silence until the client leaves
    ERROR = "error"  # a 5xx answer; in a stream an error event half way, after status 200
    NO_USAGE = "no-usage"  # a whole answer that doesn't tell its usage


class Defaults(msgspec.Struct, frozen=True):
    """What the emulator does where a request says nothing."""

    chunks: int = DEFAULT_CHUNKS
    pace_ms: int = 0
    full_content: bool = True  # as many words as output tokens; False: at most `SHORT_WORDS`


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to give. Counts are tokens, inclusive: `cached_tokens` are part of `input_tokens`."""

    call_id: str  # goes into the response id, so that a row can be joined to its call
    model: bytes  # a JSON string, quotes included
    streamed: bool
    include_usage: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    words: int  # words of content to write
    chunks: int
    pace_ms: int
    fault: Fault | None
    vectors: int = 1  # embeddings asked for
    base64_vectors: bool = False

    @property
    def tells_usage(self) -> bool:
        """False for the `no-usage` fault."""
        return self.fault is not Fault.NO_USAGE


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Options(msgspec.Struct):
    num_predict: int | None = None


class _Body(msgspec.Struct):
    """The fields of every dialect's request that change the answer; the rest is not even decoded."""

    model: str = ""
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    options: _Options | None = None
    encoding_format: str | None = None
    messages: msgspec.Raw = msgspec.Raw(b"null")
    system: msgspec.Raw = msgspec.Raw(b"null")
    instructions: msgspec.Raw = msgspec.Raw(b"null")
    prompt: msgspec.Raw = msgspec.Raw(b"null")
    input: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def output_tokens(self) -> int:
        """The default length of an answer, within what the request allows."""
        predict = self.options.num_predict if self.options else None  # Ollama: -1 = no limit
        limits = (self.max_tokens, self.max_completion_tokens, self.max_output_tokens, predict)
        return min([DEFAULT_OUTPUT_TOKENS, *(limit for limit in limits if limit is not None and limit >= 0)])

    @property
    def input_words(self) -> int:
        texts = (self.messages, self.system, self.instructions, self.prompt, self.input)
        return sum(count_words(msgspec.json.decode(text)) for text in texts)


_decode = msgspec.json.Decoder(_Body).decode


def read_ask(
    path: bytes,
    headers: dict[bytes, bytes],
    body: bytes,
    defaults: Defaults,
    *,
    embeds: bool,
    streams_by_default: bool,
) -> Ask:
    """Read a request. `headers` holds the `x-emulate-*` ones, lower case. `ValueError` says what is wrong."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the body is not a request this emulator understands: {error}") from None
    output_tokens = 0 if embeds else _count(headers, b"x-emulate-output-tokens", asked.output_tokens)
    # Counting is only paid for where no header tells the number: a replay sends tens of thousands of calls.
    told = headers.get(b"x-emulate-input-tokens")
    input_tokens = asked.input_words if told is None else _count(headers, b"x-emulate-input-tokens", 0)
    words = output_tokens if defaults.full_content else min(output_tokens, SHORT_WORDS)
    call_id = headers.get(b"x-emulate-call-id")
    fault = headers.get(b"x-emulate-fault")
    return Ask(
        call_id=call_id.decode() if call_id else blake2b(path + body, digest_size=12).hexdigest(),
        model=msgspec.json.encode(asked.model or "emulated"),
        streamed=not embeds and (streams_by_default if asked.stream is None else asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=min(input_tokens, _count(headers, b"x-emulate-cached-tokens", 0)),
        words=words,
        chunks=max(1, _count(headers, b"x-emulate-chunks", min(defaults.chunks, words))),
        pace_ms=_count(headers, b"x-emulate-pace-ms", defaults.pace_ms),
        fault=Fault(fault.decode()) if fault else None,
        vectors=_vectors(asked.input) if embeds else 1,
        base64_vectors=asked.encoding_format == "base64",
    )


def count_words(value: Any) -> int:
    """Words in the texts of a decoded request part: a string, messages, or content blocks; token ids count one each.

    >>> count_words([{"role": "user", "content": [{"type": "text", "text": "two words"}]}, {"content": "one"}])
    3
    """
    match value:
        case str():
            return len(value.split())
        case bool() | None:
            return 0
        case int():
            return 1
        case list():
            return sum(count_words(item) for item in value)
        case dict():
            return sum(count_words(value[key]) for key in ("content", "text") if key in value)
    return 0


def _count(headers: dict[bytes, bytes], name: bytes, default: int) -> int:
    told = headers.get(name)
    if told is None:
        return default
    if not told.isdigit():
        raise ValueError(f"{name.decode()} must be a whole number, not {told.decode('latin-1')!r}")
    return int(told)


def _vectors(texts: msgspec.Raw) -> int:
    """How many embeddings are asked for: one a text, one for a single list of token ids."""
    asked = msgspec.json.decode(texts)
    if not isinstance(asked, list) or (asked and isinstance(asked[0], int)):
        return 1
    return len(asked)
