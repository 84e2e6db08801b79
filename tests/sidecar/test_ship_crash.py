"""The shipper killed, Postgres killed: the ledger holds every call exactly once."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import Engine, text

from metering.ledger import migrate
from metering.ledger.embedded import EmbeddedPostgres
from metering.ledger.engine import connect
from metering.sidecar.ship.pause import Stop
from metering.sidecar.ship.shipper import run_shipper
from tests.sidecar.spool_calls import ROOT
from tests.sidecar.test_ship import shipped, write_calls

CALLS = 50_000
SEED = 20261122

# It forks itself so that a start costs no imports; each child ships until it is killed.
KILLING = """
import os, random, signal, sys, time
from pathlib import Path
from metering.sidecar.ship import shipper
from metering.sidecar.spool import reader
reader.BATCH_RECORDS = 1_000  # more commits to be killed between
chance = random.Random(int(sys.argv[3]))
begun = Path(sys.argv[1], "worker-0", "ship.json")  # is written with the first batch
turn = 0
while turn < 8 or not begun.exists():
    turn += 1
    child = os.fork()
    if child == 0:
        shipper.run_shipper(Path(sys.argv[1]), sys.argv[2])
        os._exit(1)
    time.sleep((0.05 + 0.3 * chance.random()) * max(1, turn / 8))  # a busy machine needs longer to ship anything
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_fifty_thousand_records_through_a_shipper_that_is_killed(
    tmp_path: Path, database_url: str, engine: Engine
) -> None:
    write_calls(tmp_path / "worker-0", 0, CALLS // 2, segment_bytes=1 << 20)
    write_calls(tmp_path / "worker-1", CALLS // 2, CALLS, segment_bytes=1 << 20)
    subprocess.run(
        [sys.executable, "-c", KILLING, str(tmp_path), database_url, str(SEED)], cwd=ROOT, check=True, timeout=120
    )
    killed_at = shipped(engine)[0]
    totals = run_shipper(tmp_path, database_url, once=True)
    assert shipped(engine) == (CALLS, sum(range(CALLS)))
    assert totals.inserted == CALLS - killed_at
    assert totals.duplicates == totals.conflicts == totals.refused == totals.corrupt == 0
    with engine.connect() as connection:
        batches = connection.execute(text("SELECT sum(inserted), count(*) FROM shipped_batch")).one()
    assert batches[0] == CALLS
    assert killed_at > 0, "no child shipped anything before it was killed"


def test_postgres_killed_while_shipping(state_dir: Path) -> None:
    chance = random.Random(SEED)
    spool = state_dir / "spool"
    postgres = EmbeddedPostgres(state_dir / "postgres", {"fsync": "off"})  # the server dies, the machine doesn't
    url = postgres.start()
    migrate.upgrade(url)
    stop = Stop()
    shipper = threading.Thread(target=run_shipper, args=(spool, url), kwargs={"stop": stop})
    try:
        shipper.start()
        write_calls(spool / "worker-0", 0, 2000, segment_bytes=100_000)
        time.sleep(chance.random() * 0.3)
        leader = int((state_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(leader, signal.SIGKILL)
        write_calls(spool / "worker-0", 2000, 4000, segment_bytes=100_000)
        postgres = EmbeddedPostgres(state_dir / "postgres", {"fsync": "off"})
        assert postgres.start() == url
        engine = connect(url)
        while shipped(engine)[0] < 4000:
            stop.wait(0.05)
        assert shipped(engine) == (4000, sum(range(4000)))
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM usage_event_conflict")).scalar_one() == 0
        engine.dispose()
    finally:
        stop.request()
        shipper.join()
        stop.close()
        postgres.stop()
