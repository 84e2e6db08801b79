"""What has been found while an answer is read, and what a meaning has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, ClassVar

from metering.core.dialects.framing import Stream
from metering.core.dialects.plain import Plain
from metering.core.dialects.reading import NO_HEADERS, Reading
from metering.core.usage import Usage

# How many frames are opened to learn model and id: Azure's first chunk has an empty model.
NAMING_FRAMES_MAX = 4


class Found:
    """Notes taken while reading one answer."""

    # Defaults live in the class: an answer sets few of them, and stores an instance does not make are saved per answer.
    asked: str | None = None  # the model, where the path names it
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    raw_usage: dict[str, Any] | None = None
    plain: Plain | None = None  # what `raw_usage` says, where it is a plain object
    timings: dict[str, Any] | None = None
    web_searches = 0
    searched: frozenset[str] = frozenset()  # what was searched for, where several frames may tell the same
    failed = False  # an error object was seen
    told = False  # a usage object that says something was seen
    final = False  # the usage found is the last word
    partial = False  # the provider left a part of the usage out
    pending = False  # a background response that is still running
    background: bool | None = None
    idle = False  # the answer says that no model ran
    from_headers = False  # the usage found stood in the answer's headers
    once = False  # several answers tell this usage
    variant: str | None = None
    reported_cost: Decimal | None = None  # USD
    others: tuple[Reading, ...] = ()  # what other models took

    def __init__(self, provider: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.provider = provider  # the route's name for it
        self.headers = headers  # of the answer, as far as the meaning asks for them


class Meaning(ABC):
    """What the JSON texts of a family of dialects mean. Stateless: notes go to `Found`."""

    headers: Collection[str] = ()  # of the answer that tell something, in lower case
    reads_body: ClassVar[bool] = True  # False: the body is sound or a picture, and tells nothing
    members: Collection[str] = ()  # looked for where only the ends of a document were kept
    cut_depth: int = 1  # how deep they stand in a stream's frame
    # Of a frame whose beginning is lost only a usage object is telling enough to be trusted.
    telling: Collection[str] = frozenset({"usage", "usageMetadata", "eval_count", "prompt_eval_count"})

    @abstractmethod
    def read(self, text: bytes, found: Found) -> bool:
        """Take what one JSON text tells; False if it is not a JSON object."""

    @abstractmethod
    def read_members(self, members: dict[str, Any], found: Found) -> None:
        """Take what the whole members of a cut document tell."""

    @abstractmethod
    def read_stream(self, stream: Stream, found: Found) -> bool:
        """Take what a stream tells; whether it ended as the dialect says."""

    @abstractmethod
    def usage(self, found: Found) -> Usage | None:
        """The usage in what was found; None if nothing was reported."""

    def read_names(self, stream: Stream, found: Found) -> None:
        """Open the first frames until the answer has told its model and id."""
        for text in stream.first(NAMING_FRAMES_MAX):
            self.read(text, found)
            if found.model and found.response_id:
                break

    def read_errors(self, stream: Stream, found: Found) -> None:
        """HTTP 200 is not success: streams break with an error object inside."""
        if not stream.mentions(b"error"):
            return
        for text in stream.having(b'"error"'):
            self.read(text, found)
        found.failed = found.failed or stream.has_event(b"error")
