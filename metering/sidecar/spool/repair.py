"""Taking damage out of a spool that nobody uses: the bytes go to quarantine, what can be read stays."""

import os
from pathlib import Path

import msgspec

from metering.errors import SpoolError
from metering.sidecar.spool.disk import DISK, sync_directory
from metering.sidecar.spool.lock import lock_directory, lock_for_shipping
from metering.sidecar.spool.quarantine import set_aside
from metering.sidecar.spool.scan import Damage, scan_segment
from metering.sidecar.spool.segment import Record, encode_line, list_segments, spool_error
from metering.sidecar.spool.writer import SpoolWriter


class RepairReport(msgspec.Struct, kw_only=True):
    """What was done to one spool."""

    directory: str
    segments_rewritten: int = 0
    damages_quarantined: int = 0
    calls_interrupted: int = 0  # calls without a final that have one now


def repair_spool(directory: Path) -> RepairReport:
    """Rewrite damaged segments without their damage, and finish the calls of a writer that is gone.

    `SpoolLocked` while a writer or a shipper uses the spool; `SpoolError` if the disk refuses.
    """
    report = RepairReport(directory=str(directory))
    locks = [lock_directory(directory)]
    try:
        locks.append(lock_for_shipping(directory))
        for segment in list_segments(directory):
            if any(isinstance(item, Damage) for item in scan_segment(segment)):
                report.damages_quarantined += _rewrite(segment)
                report.segments_rewritten += 1
    except OSError as error:
        raise spool_error("repair", directory, error) from None
    finally:
        for lock in locks:
            os.close(lock)
    writer = SpoolWriter.open(directory)
    report.calls_interrupted = writer.measure().interrupted
    if writer.degraded:
        raise SpoolError(f"calls in {directory} could not be finished: free space on its disk and repair it again")
    writer.close()
    return report


def _rewrite(segment: Path) -> int:
    """Replace `segment` by its records, mended ones too; how many damages went to quarantine."""
    damages = 0
    temporary = segment.with_suffix(".repair")
    with temporary.open("wb") as file:
        for item in scan_segment(segment):
            if isinstance(item, Record):
                file.write(encode_line(item.sequence, item.kind, item.payload))
            else:
                set_aside(DISK, segment, item.offset, item.harm, item.data)
                damages += 1
        file.flush()
        os.fdatasync(file.fileno())
    temporary.replace(segment)
    sync_directory(DISK, segment.parent)
    return damages
