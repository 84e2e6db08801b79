r"""The spool's format: one record a line, files named by their first sequence.

A line is `<crc32> <sequence> <kind> <json>\n`. The checksum is eight lower-case hex digits and covers what
stands after its space, without the newline. Kinds: `H`eader (a segment's first line), `O`pen (a call was
forwarded), `F`inal (the truth about it). Every line, headers too, takes the next sequence.

Sequences never go back. Each start of a writer begins at a multiple of 2**32 of its own: after a power loss the
ledger's position may lie beyond what the disk kept, and a sequence used twice would be skipped as shipped. A power loss
may also take all traces of the last start; so the seconds since 2026 are the multiple, or one more than the last if
the clock went back.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID
from zlib import crc32

import msgspec

from metering.errors import SpoolError

FORMAT = 1
SEGMENT_BYTES = 64 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024  # no event comes near; a longer run without newline is damage, not a record
LINE_ROOM = 64  # more than a line takes besides its payload
BOOT_SEQUENCES = 1 << 32
BOOT_EPOCH = 1_767_225_600  # 2026-01-01T00:00:00Z
BOOTS_MAX = 1 << 30  # what a clock may claim: leaves as many starts until a sequence outgrows Postgres' bigint

HEADER = b"H"
OPEN = b"O"
FINAL = b"F"

_NAME = re.compile(r"\d{20}\.seg")
_KEY_START = b'{"event_id":"'
_READ_BYTES = 1024 * 1024


class Record(msgspec.Struct, frozen=True, gc=False):
    """One good line. `payload` is its JSON; `end` the offset behind its newline."""

    sequence: int
    kind: bytes
    payload: bytes
    offset: int
    end: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's first record.

    The `carried` records behind it are copies: every call then open, and finals whose first copy may not
    have reached the disk. Once they are all there, nothing before this segment is needed to recover.
    """

    format: int = FORMAT
    source_id: UUID
    boot_id: UUID  # one per start of a writer; two with the same sequences betray a copied spool
    after: int  # the last sequence written before this segment, 0 if none: tells a lost segment from a skip
    carried: int


class EventKey(msgspec.Struct, frozen=True):
    """What the spool needs to know of an event: whose record it is."""

    event_id: UUID


_encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_key = msgspec.json.Decoder(EventKey).decode


def encode_line(sequence: int, kind: bytes, payload: bytes) -> bytes:
    """One record, newline included."""
    body = b"%d %b %b" % (sequence, kind, payload)
    return b"%08x %b\n" % (crc32(body), body)


def encode_header(sequence: int, header: Header) -> bytes:
    """A segment's first line."""
    return encode_line(sequence, HEADER, _encode_header(header))


def parse_line(line: bytes, offset: int) -> Record | None:
    """Read one line (without its newline) that starts at `offset`; None if the checksum denies it."""
    body = line[9:]
    if line[:9] != b"%08x " % crc32(body):
        return None
    parts = body.split(b" ", 2)
    if len(parts) != 3 or not parts[0].isdigit():
        return None
    return Record(int(parts[0]), parts[1], parts[2], offset, offset + len(line) + 1)


def parse_header(record: Record) -> Header | None:
    """The header that `record` holds; None if it holds none of a format we know."""
    if record.kind != HEADER:
        return None
    try:
        header = _decode_header(record.payload)
    except msgspec.DecodeError:
        return None
    return header if header.format == FORMAT else None


def event_key(record: Record) -> bytes | None:
    """Whose call an open or final record is about: the id's text; None if the JSON doesn't say."""
    payload = record.payload
    # The id comes first in what we write. Recovery asks this of each record of a segment: no decoding then.
    if payload.startswith(_KEY_START) and payload[49:50] == b'"':
        return payload[13:49]
    try:
        return str(_decode_key(payload).event_id).encode()
    except msgspec.DecodeError:
        return None


def event_id_of(key: bytes) -> UUID | None:
    """The id that an `event_key` spells; None if it spells none."""
    try:
        return UUID(key.decode())
    except ValueError:
        return None


def segment_path(directory: Path, first_sequence: int) -> Path:
    """Where the segment that begins with `first_sequence` lies."""
    return directory / f"{first_sequence:020d}.seg"


def first_sequence_of(path: Path) -> int:
    """The sequence a segment is named by."""
    return int(path.name[:20])


def list_segments(directory: Path) -> list[Path]:
    """All segments, oldest first. Whatever else lies there is none of ours."""
    return [directory / entry.name for entry in sorted(_segment_entries(directory), key=lambda entry: entry.name)]


def read_chunks(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The bytes of `path` from `offset` to its present end, a mebibyte at a time."""
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_READ_BYTES):
            yield chunk


def segments_bytes(directory: Path) -> int:
    """What all segments take on disk; one retired while we count is left out."""
    total = 0
    for entry in _segment_entries(directory):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _segment_entries(directory: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(directory) as entries:
        return [entry for entry in entries if _NAME.fullmatch(entry.name) and entry.is_file()]


def spool_error(action: str, path: Path, error: OSError) -> SpoolError:
    """The sentence for an operating system's refusal."""
    return SpoolError(f"can't {action} {path}: {error.strerror or error}; check the disk and its permissions")
