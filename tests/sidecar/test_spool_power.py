"""Hundreds of stories of power losses, kills and failing disks: every promise of the spool is kept in each."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.sidecar.spool_world import World

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SEEDS, PARTS = 500, 2


def run_seed(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        try:
            World(Path(folder), seed).run()
        except Exception as error:
            error.add_note(f"replay it: python -m tests.sidecar.test_spool_power {seed}")
            raise


@pytest.mark.parametrize("part", range(PARTS))
def test_what_was_promised_outlives_every_crash(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        run_seed(seed)


if __name__ == "__main__":
    import sys

    run_seed(int(sys.argv[1]))
