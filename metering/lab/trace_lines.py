"""The traces that are lines, one a call: Azure 2023 (CSV) and Mooncake (JSON)."""

import csv
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from metering.errors import InputError
from metering.lab.calls import Call, parts_for, teams_for

AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
MOONCAKE_BLOCK_TOKENS = 512  # what one of its `hash_ids` stands for


def azure_calls(path: Path, *, seed: int, teams: int) -> list[Call]:
    """The calls of one Azure file. It names no tenants: `teams` teams of our own share it, by seed."""
    rows = list(_azure_rows(path))
    if not rows:
        return []
    begun = rows[0][0]
    workload = "code" if "code" in path.stem.lower() else "conversation"
    names = [f"{workload}-{number:02d}" for number in range(1, teams + 1)]
    cast = zip(rows, parts_for(seed, len(rows)), teams_for(seed, len(rows), names), strict=True)
    return [
        Call(
            at_ms=max(0, (at - begun) // timedelta(milliseconds=1)),
            team=team,
            project=workload,
            dialect=part.dialect,
            model=part.model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            streamed=part.streamed,
        )
        for (at, input_tokens, output_tokens), part, team in cast
    ]


def _azure_rows(path: Path) -> Iterator[tuple[datetime, int, int]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        reader = csv.reader(lines)
        if next(reader, None) != AZURE_COLUMNS:
            raise InputError(f"{path}, line 1: an Azure trace begins with {','.join(AZURE_COLUMNS)}; check the file")
        for row in reader:
            if not row:
                continue
            try:
                at, context, generated = row
                yield datetime.fromisoformat(at), _tokens(context), _tokens(generated)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {reader.line_num}: {error}; a line is a time and two token counts, such as "
                    f"2023-11-16 18:17:03.9799600,4808,10: mend it or take it out"
                ) from None


def _tokens(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a count of tokens")
    return int(text)


Count = Annotated[int, msgspec.Meta(ge=0)]


class _MooncakeLine(msgspec.Struct):
    timestamp: Count  # ms
    input_length: Count
    output_length: Count
    hash_ids: list[int] = []


def mooncake_calls(path: Path, *, seed: int, teams: int) -> list[Call]:
    """The calls of one Mooncake file, in its order.

    Its `hash_ids` name blocks of 512 tokens; leading blocks seen before were in the cache, so they become
    `cached_tokens`: the only public trace that has them.
    """
    rows = list(_mooncake_rows(path))
    seen: set[int] = set()
    calls = []
    names = [f"chat-{number:02d}" for number in range(1, teams + 1)]
    for row, part, team in zip(rows, parts_for(seed, len(rows)), teams_for(seed, len(rows), names), strict=True):
        cached_blocks = next((i for i, block in enumerate(row.hash_ids) if block not in seen), len(row.hash_ids))
        seen.update(row.hash_ids)
        calls.append(
            Call(
                at_ms=row.timestamp,
                team=team,
                project="mooncake",
                dialect=part.dialect,
                model=part.model,
                input_tokens=row.input_length,
                output_tokens=row.output_length,
                cached_tokens=min(row.input_length, cached_blocks * MOONCAKE_BLOCK_TOKENS),
                streamed=part.streamed,
            )
        )
    return calls


def _mooncake_rows(path: Path) -> Iterator[_MooncakeLine]:
    decode = msgspec.json.Decoder(_MooncakeLine).decode
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{path}, line {number}: {error}; a line is an object with timestamp (ms), input_length and "
                    f"output_length: mend it or take it out"
                ) from None
