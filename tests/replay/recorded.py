"""Which recordings there are: our own, and the shared ones where they lie beside the project."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from metering.core.dialects import MEANINGS, Reading
from metering.core.event import UsageEvent
from metering.core.usage import UsageSource
from metering.jobs.check_dialects import Recording
from metering.jobs.compare_usage import Difference, compare

OURS = Path(__file__).parents[1] / "recordings"
SHARED = Path(__file__).parents[3] / "shared" / "recordings"
STREAMED = (
    *("text/event-stream", "application/x-ndjson", "application/stream+json"),
    "application/vnd.amazon.eventstream",
)
SAFE = "/%:@!$&'()*+,;=~"
# Of one connection, or of an encoding that the recorder has undone.
NOT_SERVED = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "upgrade", "trailer"}
)


class Recorded(msgspec.Struct, frozen=True):
    """One exchange that can be served again over HTTP."""

    number: int
    name: str
    recording: Recording

    @property
    def provider(self) -> str:
        """As a path segment."""
        return self.recording.provider

    @property
    def path(self) -> str:
        """Path and query as the client asked."""
        url = urlsplit(self.recording.url)
        path = quote("/" + url.path.removeprefix("/"), safe=SAFE)  # recorders put `<PLACES>` where secrets were
        return path + (f"?{quote(url.query, safe=SAFE)}" if url.query else "")

    @property
    def prefix(self) -> str:
        """What tells it from all other exchanges, and its route at the sidecar."""
        return f"/{self.provider}/{self.number}"

    @property
    def streamed(self) -> bool:
        """Whether the answer came as a stream."""
        types = (
            str(value) for name, value in self.recording.response_headers.items() if name.lower() == "content-type"
        )
        return self.recording.streamed or next(types, "").lower().startswith(STREAMED)

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status, and the headers that may be sent again."""
        recording = self.recording
        headers = [
            (name, str(value))
            for name, value in recording.response_headers.items()
            if name.lower() not in NOT_SERVED and str(value).isprintable()
        ]
        return recording.status or 0, headers


def load(folder: Path) -> Iterator[Recorded]:
    """The recordings of a folder that are HTTP exchanges with an answer."""
    for number, path in enumerate(sorted(folder.rglob("*.json"))):
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        if (recording.status or 0) >= 200 and urlsplit(recording.url).scheme != "wss":
            yield Recorded(number, str(path.relative_to(folder)), recording)


def check_rows(events: Sequence[UsageEvent], recorded: Recorded) -> list[Difference]:
    """What is wrong with the rows of one call; nothing if there is one, with the expected usage."""
    calls = [event for event in events if event.part_of is None]
    if len(calls) != 1:
        return [Difference("rows", 1, len(calls))]
    call, recording = calls[0], recorded.recording
    if recording.expected_ambiguous or call.dialect not in MEANINGS:
        return []
    told = [value for value in (recording.expected_usage or {}).values() if not isinstance(value, str) and value]
    if call.usage_source is UsageSource.NONE and (recording.method == "GET" or not told):
        return []  # a look at what its own call told, or at what still runs
    reading = Reading(
        usage=call.usage,
        usage_source=call.usage_source,
        raw_usage=call.raw_usage,
        service_tier=call.service_tier,
        reported_cost=call.reported_cost,
        response_model=call.response_model,
    )
    return compare(recording.expected_usage, reading)
