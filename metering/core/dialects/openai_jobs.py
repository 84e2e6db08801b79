"""What objects mean that are made by one call and polled by others until they have ended: runs, trainings, films.

What was consumed stands in the object once it has ended, at each look at it: it is marked `once` under its id.
"""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, milliseconds, usage_object, word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.found import Found
from metering.core.dialects.framing import Stream
from metering.core.dialects.one_object import OneObject
from metering.core.dialects.openai import take_usage
from metering.core.dialects.openai_media import picture_size, variant
from metering.core.dialects.quirks import read_usage
from metering.core.usage import Usage

# How a status says that there is nothing to come, whoever says it.
ENDED = frozenset(
    (
        *("completed", "succeeded", "success", "done", "failed", "cancelled", "canceled", "expired", "incomplete"),
        *("timeout_exceeded", "failed_validation", "cancelled_by_user"),
    )
)
_TRAINING = "training"  # a token that was learnt from has another price than one that was read


def has_ended(status: object) -> bool:
    """Whether a job of this status runs no more."""
    return isinstance(status, str) and status.lower() in ENDED


class _Film(msgspec.Struct):
    duration: Any = None


class _Job(msgspec.Struct):
    """The members of all of these objects that metering needs."""

    id: Any = None
    object: Any = None
    model: Any = None
    status: Any = None
    usage: Any = None
    error: Any = None
    trained_tokens: Any = None
    seconds: Any = None
    n_seconds: Any = None
    n_variants: Any = None
    size: Any = None
    width: Any = None
    height: Any = None
    video: _Film | None = None


class Job(OneObject[_Job]):
    """What all of them have in common."""

    shape = _Job

    def usage(self, found: Found) -> Usage | None:
        if found.pending:
            return None
        raw = found.raw_usage
        usage = read_usage(raw, found.provider, found.model or "", found.plain) if raw else None
        usage = found.with_counted(usage)
        found.idle = usage is None  # it has failed, and costs nothing
        return usage

    def take(self, answer: _Job, found: Found) -> None:
        found.response_id = word(answer.id)
        found.model = word(answer.model) or found.model
        found.pending = not has_ended(answer.status)
        found.once = not found.pending


class Run(Job):
    """A run of an assistant. A stream of one has usage in its steps, too."""

    def read_stream(self, stream: Stream, found: Found) -> bool:
        self.read_errors(stream, found)
        for text in stream.having(b'"thread.run"'):
            self.read(text, found)
        return stream.is_done()

    def take(self, answer: _Job, found: Found) -> None:
        found.failed = found.failed or bool(answer.error)
        if answer.object == "thread.run":
            super().take(answer, found)
            take_usage(answer.usage, found)


class FineTuning(Job):
    """A training: the tokens that were learnt from, in all epochs."""

    def take(self, answer: _Job, found: Found) -> None:
        super().take(answer, found)
        found.variant = _TRAINING
        if (learnt := count(answer.trained_tokens)) and not found.pending:
            found.raw_usage = {"trained_tokens": learnt}
            found.count("input_tokens", learnt)


class Video(Job):
    """A film: OpenAI's, Azure's and xAI's."""

    def take(self, answer: _Job, found: Found) -> None:
        super().take(answer, found)
        found.variant = variant(answer.size or picture_size(answer.width, answer.height))
        if isinstance(answer.usage, dict):
            found.raw_usage = usage_object(answer.usage)
        seconds = answer.seconds if answer.video is None else answer.video.duration
        filmed_ms = milliseconds(answer.n_seconds if seconds is None else seconds)
        if filmed_ms and isinstance(answer.status, str) and answer.status.lower() not in _UNPAID:
            found.count("video_output_ms", filmed_ms * (count(answer.n_variants) or 1))


_UNPAID = frozenset({"failed", "cancelled", "canceled", "expired"})


_RUN, _TUNING, _VIDEO = Run(), FineTuning(), Video()
_FILM = "milliseconds of film, once it is made; its size"

DIALECTS = (
    Dialect(
        name="openai.assistants.runs",
        operation_name="invoke_agent",
        routes=(
            Route("POST", "threads/runs"),
            Route("POST", "threads/*/runs"),
            Route("GET", "threads/*/runs/{id}"),
            Route("POST", "threads/*/runs/{id}"),
            Route("POST", "threads/*/runs/{id}/submit_tool_outputs"),
            Route("POST", "threads/*/runs/{id}/cancel"),
        ),
        consumes=None,
        meaning=_RUN,
        spoken_by="OpenAI, Azure",
        input_total="`prompt_tokens`, once the run has ended",
        output_total="`completion_tokens`",
        stream_usage="`thread.run.completed` and other ends",
        gaps="a run nobody asks about after its end is not told",
    ),
    Dialect(
        name="openai.fine_tuning",
        operation_name="fine_tuning",
        routes=(
            Route("POST", "fine_tuning/jobs"),
            Route("GET", "fine_tuning/jobs/{id}"),
            *(Route("POST", f"fine_tuning/jobs/{{id}}/{verb}") for verb in ("cancel", "pause", "resume")),
        ),
        consumes=None,
        meaning=_TUNING,
        spoken_by="OpenAI, Azure, Mistral",
        input_total="`trained_tokens`, once it has ended, as variant `training`",
        gaps="what is paid by the hour tells no hours",
    ),
    Dialect(
        name="openai.videos",
        operation_name="video_generation",
        routes=(
            Route("POST", "videos"),
            Route("GET", "videos/{id}"),
            Route("POST", "videos/{id}/remix"),
            Route("POST", "video/generations/jobs"),
            Route("GET", "video/generations/jobs/{id}"),
        ),
        consumes=None,
        meaning=_VIDEO,
        spoken_by="OpenAI, Azure",
        also_counts=_FILM,
    ),
    Dialect(
        name="xai.videos",
        operation_name="video_generation",
        routes=(
            *(Route("POST", f"videos/{verb}", at="xai") for verb in ("generations", "edits", "extensions")),
            Route("GET", "videos/{id}", at="xai"),
        ),
        consumes=None,
        meaning=_VIDEO,
        spoken_by="xAI",
        also_counts=_FILM,
    ),
)
