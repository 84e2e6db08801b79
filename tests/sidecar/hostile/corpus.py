"""Every case, by family."""

from tests.sidecar.hostile import chunks, connections, encodings, heads, lengths, targets
from tests.sidecar.hostile.case import Case

CASES: tuple[Case, ...] = (
    *lengths.CASES,
    *encodings.CASES,
    *chunks.CASES,
    *heads.CASES,
    *targets.CASES,
    *connections.CASES,
)
