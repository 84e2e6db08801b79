"""Calls to fill spools with, and what a test wants to know of a spool's directory."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import msgspec

from metering.core.event import Attribution, Outcome, UsageEvent, mint_event_id
from metering.core.usage import Usage, UsageSource
from metering.sidecar.spool.scan import Damage, scan_segment
from metering.sidecar.spool.segment import FINAL, Record, list_segments

START_MS = 1_790_000_000_000  # in September 2026
ROOT = Path(__file__).resolve().parents[2]


def event_id(number: int) -> UUID:
    return mint_event_id(START_MS + number, number)


def opened(number: int, model: str = "gpt-4o") -> UsageEvent:
    """The open record of call `number`."""
    return UsageEvent(
        event_id=event_id(number),
        provider_name="openai",
        outcome=Outcome.INTERRUPTED,
        usage_source=UsageSource.UNKNOWN,
        request_model=model,
        attribution=Attribution(team="search"),
    )


def finished(number: int, model: str = "gpt-4o") -> UsageEvent:
    """Its final record: as many input tokens as its number."""
    return UsageEvent(
        event_id=event_id(number),
        provider_name="openai",
        outcome=Outcome.COMPLETED,
        usage_source=UsageSource.REPORTED,
        usage=Usage(input_tokens=number, output_tokens=1),
        request_model=model,
        status=200,
        attribution=Attribution(team="search"),
    )


def finals(directory: Path) -> list[UsageEvent]:
    """Every final record of a spool, in order, as often as it is there."""
    return [
        msgspec.json.decode(item.payload, type=UsageEvent)
        for segment in list_segments(directory)
        for item in scan_segment(segment)
        if isinstance(item, Record) and item.kind == FINAL
    ]


def records(directory: Path) -> list[Record]:
    return [r for segment in list_segments(directory) for r in scan_segment(segment) if isinstance(r, Record)]


def damages(directory: Path) -> list[Damage]:
    return [d for segment in list_segments(directory) for d in scan_segment(segment) if isinstance(d, Damage)]


def numbers(events: list[UsageEvent]) -> list[int]:
    return [event.event_id.int & (1 << 62) - 1 for event in events]


def start_python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """A Python process of its own that runs `program` with our packages."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
