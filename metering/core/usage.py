"""What a call consumed, and the one function that makes it chargeable.

Providers disagree about what includes what. A `Usage` holds *inclusive* totals (everything the model
read, everything it wrote) and sub-counts of those totals. `disjoint_meters` turns it into quantities that
overlap nowhere and add up to the totals again, so that a token is charged exactly once.
"""

from enum import StrEnum
from operator import attrgetter

import msgspec


class UsageSource(StrEnum):
    """How we know a call's usage. Unknown is never zero."""

    REPORTED = "reported"  # the provider's own numbers, complete
    HEADER = "header"  # the provider's numbers, from response headers
    PARTIAL = "partial"  # the provider's numbers up to a cut; the true ones are not smaller
    ESTIMATED = "estimated"  # our own count of the text
    UNKNOWN = "unknown"  # tokens were or may have been consumed; nobody told how many
    NONE = "none"  # nothing is consumed by such a call (a list of models, a refused request)


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of one call, in tokens unless the name says otherwise. `None` = not reported.

    `input_tokens` is everything the model read: cache reads and writes, audio, images and tool prompts
    included. `output_tokens` is everything it wrote: reasoning included. All other token counts are parts
    of one of the two. A sub-count may be larger than its total in a payload that lies; `disjoint_meters`
    clamps it, the number kept here is the provider's.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None  # all lifetimes together
    cache_write_5m_input_tokens: int | None = None
    cache_write_1h_input_tokens: int | None = None
    audio_input_tokens: int | None = None
    cache_read_audio_input_tokens: int | None = None  # part of cache read *and* of audio
    image_input_tokens: int | None = None
    video_input_tokens: int | None = None
    tool_use_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_output_tokens: int | None = None
    accepted_prediction_output_tokens: int | None = None
    rejected_prediction_output_tokens: int | None = None
    document_input_tokens: int | None = None
    billed_input_tokens: int | None = None  # where a provider bills less than it reads, or more (Cohere)
    billed_output_tokens: int | None = None
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    file_search_requests: int | None = None
    code_execution_requests: int | None = None
    tool_requests: int | None = None  # other tools that ran on the provider's side
    search_sources: int | None = None
    search_units: int | None = None  # reranking: a query with up to so many documents, as the provider counts it
    guardrail_units: int | None = None
    output_images: int | None = None
    input_pages: int | None = None
    input_characters: int | None = None
    audio_input_ms: int | None = None
    audio_output_ms: int | None = None
    video_output_ms: int | None = None
    compute_ms: int | None = None  # machine time that a provider sells


class Meter(StrEnum):
    """A chargeable quantity. No two meters count the same token."""

    INPUT = "input"  # read, at the plain rate: what no other input meter took
    CACHE_READ_INPUT = "cache_read_input"
    CACHE_WRITE_INPUT = "cache_write_input"  # five minutes, or the provider's only lifetime
    CACHE_WRITE_1H_INPUT = "cache_write_1h_input"
    AUDIO_INPUT = "audio_input"
    CACHE_READ_AUDIO_INPUT = "cache_read_audio_input"
    IMAGE_INPUT = "image_input"
    VIDEO_INPUT = "video_input"
    OUTPUT = "output"  # written, at the plain rate: what no other output meter took
    REASONING_OUTPUT = "reasoning_output"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_OUTPUT = "image_output"
    UNBILLED_INPUT = "unbilled_input"  # read, and not billed by the provider
    UNBILLED_OUTPUT = "unbilled_output"
    WEB_SEARCH = "web_search"
    FILE_SEARCH = "file_search"
    CODE_EXECUTION = "code_execution"
    TOOL_REQUEST = "tool_request"
    SEARCH_SOURCE = "search_source"
    SEARCH_UNIT = "search_unit"
    GUARDRAIL_UNIT = "guardrail_unit"
    IMAGE = "image"
    PAGE = "page"
    CHARACTER = "character"
    AUDIO_INPUT_MS = "audio_input_ms"
    AUDIO_OUTPUT_MS = "audio_output_ms"
    VIDEO_OUTPUT_MS = "video_output_ms"
    COMPUTE_MS = "compute_ms"
    REQUEST = "request"  # one for every call that reached a model; none for a part of a call


INPUT_METERS = (
    Meter.INPUT,
    Meter.CACHE_READ_INPUT,
    Meter.CACHE_WRITE_INPUT,
    Meter.CACHE_WRITE_1H_INPUT,
    Meter.AUDIO_INPUT,
    Meter.CACHE_READ_AUDIO_INPUT,
    Meter.IMAGE_INPUT,
    Meter.VIDEO_INPUT,
    Meter.UNBILLED_INPUT,
)
OUTPUT_METERS = (
    Meter.OUTPUT,
    Meter.REASONING_OUTPUT,
    Meter.AUDIO_OUTPUT,
    Meter.IMAGE_OUTPUT,
    Meter.UNBILLED_OUTPUT,
)
UNBILLED_METERS = frozenset({Meter.UNBILLED_INPUT, Meter.UNBILLED_OUTPUT})
# Things that are not tokens: meter → the field of `Usage` that counts them.
COUNTED_METERS = {
    Meter.WEB_SEARCH: "web_search_requests",
    Meter.FILE_SEARCH: "file_search_requests",
    Meter.CODE_EXECUTION: "code_execution_requests",
    Meter.TOOL_REQUEST: "tool_requests",
    Meter.SEARCH_SOURCE: "search_sources",
    Meter.SEARCH_UNIT: "search_units",
    Meter.GUARDRAIL_UNIT: "guardrail_units",
    Meter.IMAGE: "output_images",
    Meter.PAGE: "input_pages",
    Meter.CHARACTER: "input_characters",
    Meter.AUDIO_INPUT_MS: "audio_input_ms",
    Meter.AUDIO_OUTPUT_MS: "audio_output_ms",
    Meter.VIDEO_OUTPUT_MS: "video_output_ms",
    Meter.COMPUTE_MS: "compute_ms",
}
TOKEN_METERS = INPUT_METERS + OUTPUT_METERS
# In which order meters take their part of a total; the last takes what is left.
_INPUT_ORDER = (
    Meter.UNBILLED_INPUT,
    Meter.CACHE_READ_AUDIO_INPUT,
    Meter.CACHE_READ_INPUT,
    Meter.CACHE_WRITE_1H_INPUT,
    Meter.CACHE_WRITE_INPUT,
    Meter.AUDIO_INPUT,
    Meter.IMAGE_INPUT,
    Meter.VIDEO_INPUT,
    Meter.INPUT,
)
_OUTPUT_ORDER = (
    Meter.UNBILLED_OUTPUT,
    Meter.REASONING_OUTPUT,
    Meter.AUDIO_OUTPUT,
    Meter.IMAGE_OUTPUT,
    Meter.OUTPUT,
)
# Tuples, and one look at all that is not a token: hashing a member of an enum costs more than all else here.
_counts = attrgetter(*COUNTED_METERS.values())


def disjoint_meters(usage: Usage) -> dict[Meter, int]:
    """Split `usage` into meters that overlap nowhere; zero quantities are left out.

    The input meters sum to `input_tokens`, the output meters to `output_tokens`. Where sub-counts overlap
    in a way the provider does not tell (cached audio, say) or exceed their total (Azure Foundry's Grok
    reports more cached than read), each takes what the ones before it left: what is not billed first, then
    cache, because that is what changes the price most, then modality.
    """
    input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
    cached_audio = min(usage.cache_read_audio_input_tokens or 0, usage.cache_read_input_tokens or 0)
    cache_write = _cache_write(usage)
    cache_write_1h = min(usage.cache_write_1h_input_tokens or 0, cache_write)
    meters = _take(
        input_tokens,
        _INPUT_ORDER,
        (
            _unbilled(input_tokens, usage.billed_input_tokens),
            cached_audio,
            (usage.cache_read_input_tokens or 0) - cached_audio,
            cache_write_1h,
            cache_write - cache_write_1h,
            max(0, (usage.audio_input_tokens or 0) - cached_audio),
            usage.image_input_tokens or 0,
            usage.video_input_tokens or 0,
            input_tokens,
        ),
    )
    meters |= _take(
        output_tokens,
        _OUTPUT_ORDER,
        (
            _unbilled(output_tokens, usage.billed_output_tokens),
            usage.reasoning_output_tokens or 0,
            usage.audio_output_tokens or 0,
            usage.image_output_tokens or 0,
            output_tokens,
        ),
    )
    counts = _counts(usage)
    return meters | {m: n for m, n in zip(COUNTED_METERS, counts, strict=True) if n} if any(counts) else meters


def _unbilled(total: int, billed: int | None) -> int:
    return 0 if billed is None else max(0, total - billed)


def _cache_write(usage: Usage) -> int:
    if usage.cache_write_input_tokens is not None:
        return usage.cache_write_input_tokens
    return (usage.cache_write_5m_input_tokens or 0) + (usage.cache_write_1h_input_tokens or 0)


def _take(total: int, order: tuple[Meter, ...], parts: tuple[int, ...]) -> dict[Meter, int]:
    """Give each meter its part as far as `total` lasts, in order."""
    taken = {}
    for meter, quantity in zip(order, parts, strict=True):
        if quantity and total:
            taken[meter] = got = min(quantity, total)
            total -= got
    return taken
