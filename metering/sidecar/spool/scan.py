"""Reading segments that may be damaged: every record that can be had, and an account of what can't.

`Scanner` is a feed/finish reader without I/O. A line whose checksum fails is `Damage`. It is always
reported, and often its record can still be had:

- one flipped bit is found and turned back. CRC-32 tells all one- and two-bit errors apart in lines of up to
  91,607 bits, so a turned-back bit is the right one unless four or more bits are wrong;
- a lost newline glues two lines together: each is looked for within;
- a made newline cuts a line in two: the pieces are joined.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from zlib import crc32

import msgspec
from msgspec.structs import replace

from metering.sidecar.spool.segment import FINAL, HEADER, LINE_BYTES_MAX, OPEN, Record, parse_line, read_chunks

MENDABLE_BYTES_MAX = 91_607 // 8
# A wholly overwritten segment must not cost seconds: each attempt walks every bit of its line.
MENDS_MAX = 64

GLUED_MAX = 8

_POLYNOMIAL = 0xEDB88320
_START = re.compile(rb"[0-9a-f]{8} [0-9]{1,20} [HOF] \{")


class Harm(StrEnum):
    """What is wrong with some bytes of a segment."""

    BIT = "bit"  # one bit was wrong; its record follows, mended
    NEWLINE = "newline"  # a line's end was lost; its record follows
    LOST = "lost"  # no record can be read from these bytes
    TORN = "torn"  # the file ends within them: what a crash leaves of a write


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a segment that are not as they were written."""

    offset: int
    data: bytes
    harm: Harm


class Scanner:
    """Reads one segment's bytes in pieces of any size, in order.

    Bytes that no good line follows yet are held back (at most `LINE_BYTES_MAX` and a chunk): in a live segment
    they may be a line half written.
    """

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset  # of the first byte not yet told about: where to go on after a restart
        self._tail = b""  # the last line, not ended yet
        self._bad = bytearray()  # ended lines before it that are not records
        self._mends_left = MENDS_MAX

    def feed(self, chunk: bytes) -> list[Record | Damage]:
        """Take the next bytes; return what they complete, in order."""
        lines = (self._tail + chunk).split(b"\n")
        self._tail = lines.pop()
        out: list[Record | Damage] = []
        for line in lines:
            record = parse_line(line, self.offset + len(self._bad))
            if record is None:
                self._bad += line + b"\n"
                if len(self._bad) > LINE_BYTES_MAX:
                    out += self._resolve()
                continue
            if self._bad:
                out += self._resolve()
            out.append(record)
            self.offset = record.end
        if len(self._tail) > LINE_BYTES_MAX:
            self._bad += self._tail
            self._tail = b""
            out += self._resolve()
        return out

    def finish(self) -> list[Record | Damage]:
        """The file is sealed and was read to its end: tell what is left of it."""
        self._bad += self._tail
        self._tail = b""
        out = self._resolve() if self._bad else []
        last = out[-1] if out else None
        if isinstance(last, Damage) and last.harm is Harm.LOST and not last.data.endswith(b"\n"):
            out[-1] = replace(last, harm=Harm.TORN)
        return out

    def _resolve(self) -> list[Record | Damage]:
        """Get out of the bad bytes what can be had, and step over them."""
        run, start = bytes(self._bad), self.offset
        self._bad = bytearray()
        self.offset = start + len(run)
        if run.count(b"\n", 0, -1) == 1 and (record := self._mend(run.rstrip(b"\n"), start)):
            return [Damage(start, run, Harm.BIT), replace(record, end=self.offset)]
        out: list[Record | Damage] = []
        for line in _split_lines(run):
            found = self._read_bad_line(line, start)
            if out and (joined := _join(out[-1], found[0])):
                out[-1:] = [joined, *found[1:]]
            else:
                out += found
            start += len(line)
        return out

    def _read_bad_line(self, line: bytes, start: int) -> list[Record | Damage]:
        """One bad line as its records and damages; `line` has its newline unless the file ends in it."""
        body = line.removesuffix(b"\n")
        end = start + len(line)
        if len(line) == len(body):  # the file ends here
            if record := parse_line(body, start):
                return [replace(record, end=end)]  # whole but for the newline: the write was cut at its last byte
            if record := parse_line(body[:-1], start):
                return [Damage(start, line, Harm.NEWLINE), replace(record, end=end)]
        if record := self._mend(body, start):
            return [Damage(start, line, Harm.BIT), replace(record, end=end)]
        for match in islice(_START.finditer(body, 1), GLUED_MAX):
            second = parse_line(body[match.start() :], start + match.start())
            if second is None:
                continue
            first = parse_line(body[: match.start() - 1], start)
            harm = Harm.NEWLINE if first else Harm.LOST
            damage = Damage(start, line[: match.start()], harm)
            return [damage, *([first] if first else []), replace(second, end=end)]
        return [Damage(start, line, Harm.LOST)]

    def _mend(self, line: bytes, offset: int) -> Record | None:
        """The record that `line` was before one of its bits flipped; None if that is not what happened."""
        if len(line) > MENDABLE_BYTES_MAX or not self._mends_left:
            return None
        self._mends_left -= 1
        right = b"%08x " % crc32(line[9:])
        if (int.from_bytes(line[:9]) ^ int.from_bytes(right)).bit_count() == 1:
            return parse_line(right + line[9:], offset)
        try:
            syndrome = int(line[:8], 16) ^ crc32(line[9:])
        except ValueError:
            return None
        distance = _flipped_bit(syndrome, 8 * (len(line) - 9))
        if distance is None:
            return None
        mended = bytearray(line)
        mended[-1 - distance // 8] ^= 0x80 >> distance % 8
        record = parse_line(bytes(mended), offset)
        plausible = record and record.kind in (HEADER, OPEN, FINAL) and record.payload.endswith(b"}")
        return record if plausible else None


def _flipped_bit(syndrome: int, bits: int) -> int | None:
    """How many bits from the end the one bit lies that changes a CRC-32 by `syndrome`; None if none does."""
    state = _POLYNOMIAL
    for distance in range(bits):
        if state == syndrome:
            return distance
        state = state >> 1 ^ (_POLYNOMIAL if state & 1 else 0)
    return None


def _split_lines(run: bytes) -> list[bytes]:
    """Split after newlines only; `bytes.splitlines` also splits at carriage returns."""
    parts = [line + b"\n" for line in run.split(b"\n")]
    parts[-1] = parts[-1][:-1]
    return [part for part in parts if part]


def _join(one: Record | Damage, other: Record | Damage) -> Damage | None:
    """Neighbouring lost lines as one damage; None if they are anything else."""
    if isinstance(one, Damage) and isinstance(other, Damage) and one.harm == other.harm == Harm.LOST:
        return replace(one, data=one.data + other.data)
    return None


def scan_segment(path: Path) -> Iterator[Record | Damage]:
    """All records and damages of a segment that is no longer written to, in constant memory."""
    scanner = Scanner()
    for chunk in read_chunks(path):
        yield from scanner.feed(chunk)
    yield from scanner.finish()
