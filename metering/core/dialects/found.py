"""What has been found while an answer is read, and what a meaning has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from metering.core.dialects.framing import Stream
from metering.core.dialects.plain import Plain
from metering.core.dialects.reading import NO_HEADERS, Reading
from metering.core.dialects.totals import Totals
from metering.core.dialects.windows import Kept
from metering.core.usage import Usage

# How many frames are opened to learn model and id: Azure's first chunk has an empty model.
NAMING_FRAMES_MAX = 4


NO_COUNTS: Mapping[str, int] = MappingProxyType({})


class Found:
    """Notes taken while reading one answer."""

    # Defaults live in the class: an answer sets few of them, and stores an instance does not make are saved per answer.
    asked: str | None = None  # the model, where the path names it
    model: str | None = None
    response_id: str | None = None
    item: str | None = None  # the id in the request's path: see `Operation`
    service_tier: str | None = None
    raw_usage: dict[str, Any] | None = None
    plain: Plain | None = None  # what `raw_usage` says, where it is a plain object
    passes: list[Any] | None = None  # over the model, where a usage object tells them apart
    timings: dict[str, Any] | None = None
    searched: frozenset[str] = frozenset()  # what was searched for, where several frames may tell the same
    counted: Mapping[str, int] = NO_COUNTS  # what stands in no usage object, by field of `Usage`: tools used, images
    heard_ms: int | None = None  # how long the sound was, where it stands outside a usage object
    blocked = False  # a guardrail stepped in
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
    totals: Totals | None = None  # of an answer that tells many others
    others: tuple[Reading, ...] = ()  # what other models took

    def __init__(self, provider: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.provider = provider  # the route's name for it
        self.headers = headers  # of the answer, as far as the meaning asks for them

    def count(self, field: str, quantity: int) -> None:
        """Note things that stand in no usage object."""
        self.counted = {**self.counted, field: self.counted.get(field, 0) + quantity}

    def with_counted(self, usage: Usage | None) -> Usage | None:
        """`usage` and the things that were noted; what it tells itself goes first."""
        if not self.counted:
            return usage
        usage = usage or Usage()
        return msgspec.structs.replace(
            usage, **{field: many for field, many in self.counted.items() if getattr(usage, field) is None}
        )


class Meaning(ABC):
    """What the JSON texts of a family of dialects mean. Stateless: notes go to `Found`."""

    headers: Collection[str] = ()  # of the answer that tell something, in lower case
    reads_body: ClassVar[bool] = True  # False: the body is sound or a picture, and tells nothing
    members: Collection[str] = ()  # looked for where only the ends of a document were kept
    cut_depth: int = 1  # how deep they stand in a stream's frame
    # Of a frame whose beginning is lost only a usage object is telling enough to be trusted.
    telling: Collection[str] = frozenset({"usage", "usageMetadata", "eval_count", "prompt_eval_count"})
    by_line: bool = False  # True: lines without end, each read as it comes: see `read_line`

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

    def read_line(self, line: Kept, found: Found) -> bool:
        """Take what one line tells; False if it can't be read. `found.idle`: the others tell nothing either."""
        return self.read(line.head, found)

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
