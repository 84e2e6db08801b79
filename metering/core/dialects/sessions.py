"""Realtime sessions: a WebSocket that is read message by message, and a reading of it at any time.

session = open_session(operation, extensions="permessage-deflate", told=write_down)
session.feed(chunk)  # from the server, as they come; `told` is called when a message told usage
session.feed_client(chunk)
session.so_far()  # the reading, if the session broke off here
session.finish()

Usage comes with each turn and is added up. What other models took is added up apart, a model each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from metering.core.dialects.counts import COUNT_MAX, usage_object
from metering.core.dialects.reading import Reading
from metering.core.dialects.websocket import Inflater, Messages, read_extensions
from metering.core.dialects.windows import Kept
from metering.core.usage import Usage, UsageSource

COUNTED_MAX = 4096  # turns of one session that are known not to be counted twice
RUNNING_MAX = 64
OTHERS_MAX = 8  # models beside the session's own
KIND = "modality"
NORMAL_CLOSES = (None, 1000, 1001, 1005)  # whoever closes with another code says what went wrong


class Total:
    """Usage added up over a session's turns."""

    __slots__ = ("raw", "turns", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.raw: dict[str, Any] = {}  # the provider's own objects, added up member by member
        self.turns = 0

    def add(self, usage: Usage, raw: dict[str, Any]) -> None:
        """Count a turn."""
        self.turns += 1
        self.usage = usage if self.usage is None else _sum(self.usage, usage)
        self.raw = _sum_objects(self.raw, usage_object(raw) or {})

    def reading(self, source: UsageSource, model: str | None, **facts: Any) -> Reading:
        """What was told of `model`."""
        raw = {"usage_events": self.turns} | self.raw if self.turns else None
        return Reading(usage=self.usage, usage_source=source, raw_usage=raw, response_model=model, **facts)


class SessionNotes:
    """What has been found in a session so far."""

    asked_model: str | None = None  # as the client's first message says
    model: str | None = None  # as the server says
    session_id: str | None = None
    service_tier: str | None = None
    transcription_model: str | None = None
    transcribes = False  # it is a session of nothing else: what that takes is its own
    failed = False  # an error came, and no turn has ended well since

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.total = Total()
        self.others: dict[str | None, Total] = {}
        self.running: set[str] = set()  # turns that began and have not told their usage
        self._counted: dict[str, None] = {}

    @property
    def turns(self) -> int:
        """Usage events that were counted."""
        return self.total.turns + sum(other.turns for other in self.others.values())

    def begin(self, turn: str) -> None:
        """A turn runs."""
        if len(self.running) < RUNNING_MAX:
            self.running.add(turn)

    def is_new(self, turn: str | None) -> bool:
        """Whether the usage of `turn` was not counted before."""
        if turn is None:
            return True
        if turn in self._counted:
            return False
        self._counted[turn] = None
        if len(self._counted) > COUNTED_MAX:
            del self._counted[next(iter(self._counted))]
        return True

    def other(self, model: str | None) -> Total:
        """The sum of another model; beyond the first few all are one that has no name."""
        return self.others.setdefault(model if len(self.others) < OTHERS_MAX or model in self.others else None, Total())


class SessionMeaning(ABC):
    """What the messages of a family of realtime dialects mean. Stateless: notes go to `SessionNotes`."""

    client_messages: ClassVar[int] = 0  # how many of the client's first messages are read

    @abstractmethod
    def wants(self, head: bytes) -> bool:
        """Whether a message of the server that begins so may tell something."""

    @abstractmethod
    def read(self, message: Kept, notes: SessionNotes) -> None:
        """Take what a message of the server tells."""

    def read_client(self, message: Kept, notes: SessionNotes) -> None:  # noqa: B027 - most tell nothing
        """Take what a message of the client tells."""


class Session:
    """Reads both directions of one session. Nothing here raises, and memory is bounded. A `Reader`."""

    def __init__(self, meaning: SessionMeaning, notes: SessionNotes, extensions: str, told: Callable[[], None]) -> None:
        self._meaning = meaning
        self._notes = notes
        self._told = told
        self._client_left = meaning.client_messages
        server = client = None
        readable = True
        try:
            if deflate := read_extensions(extensions):
                server = Inflater(refers=deflate.server_refers)
                client = Inflater(refers=deflate.client_refers)
        except ValueError:
            readable = False
        self._server = Messages(meaning.wants, self._read, server)
        self._client = Messages(_any, self._read_client, client)
        self._server.done = not readable
        self._client.done = not readable or not self._client_left
        self.feed = self._server.feed
        self.feed_client = self._client.feed

    @property
    def asked_model(self) -> str | None:
        """The model that the client named in the session itself."""
        return self._notes.asked_model

    @property
    def in_turn(self) -> bool:
        """Whether a turn is running that has not told its usage yet."""
        return bool(self._notes.running)

    def so_far(self) -> Reading:
        """The reading if nothing more is heard: what was told is not less than the truth."""
        return self._reading(whole=False)

    def kept(self) -> None:
        """Nothing of a session is kept."""

    def finish(self) -> Reading:
        """The reading of a session that has ended."""
        gave_up = self._server.done and self._server.close_code is None
        return self._reading(whole=not gave_up and not self.in_turn)

    def _read(self, message: Kept) -> None:
        notes = self._notes
        before = notes.turns
        try:
            self._meaning.read(message, notes)
        except Exception:  # noqa: BLE001 - a mistake in a meaning may cost a count, never a session
            self._server.done = True
        if notes.turns != before:
            self._told()

    def _read_client(self, message: Kept) -> None:
        try:
            self._meaning.read_client(message, self._notes)
        except Exception:  # noqa: BLE001 - as above
            self._client_left = 0
        self._client_left -= 1
        if self._client_left <= 0 or self._notes.asked_model:
            self._client.done = True

    def _reading(self, *, whole: bool) -> Reading:
        notes = self._notes
        told = UsageSource.REPORTED if whole else UsageSource.PARTIAL
        others = [other.reading(told, model, complete=whole) for model, other in notes.others.items()]
        if not notes.total.turns:
            told = UsageSource.NONE if whole else UsageSource.UNKNOWN
        return notes.total.reading(
            told,
            notes.model,
            response_id=notes.session_id,
            service_tier=notes.service_tier,
            complete=whole,
            failed=self._failed,
            others=tuple(others),
        )

    @property
    def _failed(self) -> bool:
        return self._notes.failed or self._server.close_code not in NORMAL_CLOSES


def _any(head: bytes) -> bool:  # noqa: ARG001 - as `SessionMeaning.wants`
    return True


def _sum(usage: Usage, more: Usage) -> Usage:
    """Both together; a count that neither tells stays untold."""
    counts = msgspec.structs.asdict(usage)
    for name, count in msgspec.structs.asdict(more).items():
        if count is not None:
            counts[name] = min((counts[name] or 0) + count, COUNT_MAX)
    return Usage(**counts)


def _sum_objects(total: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Two usage objects added up member by member; words are the first one's."""
    summed = dict(total)
    for name, value in more.items():
        before = summed.get(name)
        if before is None:
            summed[name] = value
        elif isinstance(value, dict) and isinstance(before, dict):
            summed[name] = _sum_objects(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            summed[name] = _sum_modalities(before, value)
        elif _is_number(value) and _is_number(before):
            summed[name] = min(before + value, COUNT_MAX)
    return summed


def _sum_modalities(total: list[Any], more: list[Any]) -> list[Any]:
    """Google's lists of counts, an entry a modality; what is no such list stays as it was."""
    if not all(isinstance(entry, dict) and isinstance(entry.get(KIND), str | int) for entry in (*total, *more)):
        return total
    summed = {entry[KIND]: entry for entry in total}
    for entry in more:
        kind = entry[KIND]
        if kind in summed or len(summed) < len(total) + RUNNING_MAX:
            summed[kind] = _sum_objects(summed.get(kind, {}), entry) | {KIND: kind}
    return list(summed.values())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
