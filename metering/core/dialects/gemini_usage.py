"""Google's `usageMetadata`, as the Gemini interfaces of AI Studio and Vertex send it.

What tools read stands beside the prompt, what was thought beside the answer: totals are sums. Modalities come by name
or, from clients that ask for integers (`$alt=json;enum-encoding=int`), by number.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from metering.core.dialects.counts import USAGE_WORD_LENGTH_MAX, count, usage_object, word
from metering.core.dialects.plain import Count
from metering.core.usage import Usage

TEXT, IMAGE, VIDEO, AUDIO, DOCUMENT = MODALITIES = ("TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT")  # numbered from 1
TRAFFIC_TYPES = {1: "ON_DEMAND", 2: "PROVISIONED_THROUGHPUT"}
_NO_SHARES: Mapping[str, int] = {}
Name = Annotated[str, msgspec.Meta(max_length=USAGE_WORD_LENGTH_MAX, pattern=r"^\w+\Z")]


class Share(msgspec.Struct, forbid_unknown_fields=True):
    """How many tokens of a total are of one modality."""

    modality: Name | Count | None = None
    tokenCount: Count | None = None  # noqa: N815 - Google's name, as all below


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    """A plain one: what converts to it holds counts and names only (see `plain`)."""

    promptTokenCount: Count | None = None  # noqa: N815
    candidatesTokenCount: Count | None = None  # noqa: N815
    totalTokenCount: Count | None = None  # noqa: N815
    thoughtsTokenCount: Count | None = None  # noqa: N815
    toolUsePromptTokenCount: Count | None = None  # noqa: N815
    cachedContentTokenCount: Count | None = None  # noqa: N815
    promptTokensDetails: list[Share] | None = None  # noqa: N815
    promptTokenDetails: list[Share] | None = None  # noqa: N815 - so in answers to embeddings
    candidatesTokensDetails: list[Share] | None = None  # noqa: N815
    cacheTokensDetails: list[Share] | None = None  # noqa: N815
    toolUsePromptTokensDetails: list[Share] | None = None  # noqa: N815
    trafficType: Name | Count | None = None  # noqa: N815
    serviceTier: Name | None = None  # noqa: N815

    def says_something(self) -> bool:
        """Whether a total is told: some objects of a stream have a traffic type only."""
        told = self.promptTokenCount, self.candidatesTokenCount, self.totalTokenCount, self.thoughtsTokenCount
        return told != _NOTHING

    def usage(self) -> Usage | None:
        """The `Usage`; None if no count is told."""
        read = _sum(self.promptTokenCount, self.toolUsePromptTokenCount)
        written = _sum(self.candidatesTokenCount, self.thoughtsTokenCount)
        if read is None and written is None:
            if self.totalTokenCount is None:
                return None
            read = self.totalTokenCount  # nothing was written: content to be cached
        details = self.promptTokensDetails or self.promptTokenDetails
        prompt = _by_modality(details) if details else _NO_SHARES
        answer = _by_modality(self.candidatesTokensDetails) if self.candidatesTokensDetails else _NO_SHARES
        cached = _by_modality(self.cacheTokensDetails) if self.cacheTokensDetails else _NO_SHARES
        return Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_input_tokens=self.cachedContentTokenCount,
            cache_read_audio_input_tokens=cached.get(AUDIO),
            audio_input_tokens=prompt.get(AUDIO),
            image_input_tokens=prompt.get(IMAGE),
            video_input_tokens=prompt.get(VIDEO),
            document_input_tokens=prompt.get(DOCUMENT),
            tool_use_input_tokens=self.toolUsePromptTokenCount,
            reasoning_output_tokens=self.thoughtsTokenCount,
            audio_output_tokens=answer.get(AUDIO),
            image_output_tokens=answer.get(IMAGE),
        )

    @property
    def tier(self) -> str | None:
        """The served tier: Vertex calls it traffic type, and provisioned throughput is one of them."""
        traffic = self.trafficType
        return TRAFFIC_TYPES.get(traffic) if isinstance(traffic, int) else traffic or self.serviceTier


_NOTHING = (None,) * 4
_COUNTS = tuple(name for name in Metadata.__struct_fields__ if name.endswith("Count"))
_DETAILS = tuple(name for name in Metadata.__struct_fields__ if name.endswith("Details"))


def read_metadata(raw: dict[str, Any]) -> tuple[Metadata, dict[str, Any]]:
    """What `raw` says, and a copy of it that can be kept."""
    try:
        return msgspec.convert(raw, Metadata), raw
    except msgspec.ValidationError:
        return read_any(raw), usage_object(raw) or {}


def read_any(raw: Mapping[str, Any]) -> Metadata:
    """The general way: look for every member."""
    metadata = Metadata()
    for name in _COUNTS:
        setattr(metadata, name, count(raw.get(name)))
    for name in _DETAILS:
        if isinstance(shares := raw.get(name), list):
            setattr(metadata, name, [_share(share) for share in shares if isinstance(share, dict)])
    traffic = raw.get("trafficType")
    metadata.trafficType = word(traffic) if isinstance(traffic, str) else count(traffic)
    metadata.serviceTier = word(raw.get("serviceTier"))
    return metadata


def _share(share: Mapping[str, Any]) -> Share:
    modality = share.get("modality")
    return Share(word(modality) if isinstance(modality, str) else count(modality), count(share.get("tokenCount")))


def _by_modality(shares: Iterable[Share]) -> dict[str, int]:
    """Tokens by the modality's name; none for what is not told."""
    tokens: dict[str, int] = {}
    for share in shares:
        modality = share.modality
        if isinstance(modality, int):
            modality = MODALITIES[modality - 1] if 0 < modality <= len(MODALITIES) else None
        if modality is not None and share.tokenCount is not None:
            tokens[modality] = tokens.get(modality, 0) + share.tokenCount
    return tokens


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
