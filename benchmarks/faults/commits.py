"""The campaign `commits`: Postgres gets SIGKILL while a batch is being copied in or committed.

A wiretap between shipper and Postgres sees each message, so the kill comes within about a millisecond of the moment
that the seed says. What isn't deterministic is how far Postgres had got by then with what it was sent.
"""

import random
import threading
import time
from collections import Counter
from typing import Any

import msgspec

from benchmarks.faults.killers import PostgresKeeper
from benchmarks.faults.spooled import append_calls, compare_spooled
from benchmarks.faults.wiretap import Message, Move, Side, Wiretap
from benchmarks.workshop import Workshop
from metering.errors import MeteringError
from metering.lab.programs import Program, parent_option, run_command
from metering.lab.sidecar_plan import SidecarPlan
from metering.sidecar.ship.status import read_status
from metering.sidecar.spool.writer import SpoolWriter

# moment -> whose message it is, its types, and what it says (Postgres' replies carry the command's name)
MOMENTS: dict[str, tuple[Side, bytes, bytes]] = {
    "COPY asked": (Side.CLIENT, b"QP", b"COPY usage_event"),
    "COPY under way": (Side.CLIENT, b"d", b""),
    "COPY sent": (Side.CLIENT, b"c", b""),
    "COMMIT asked": (Side.CLIENT, b"QP", b"COMMIT"),
    "COMMIT under way": (Side.CLIENT, b"QP", b"COMMIT"),
    "COMMIT answered": (Side.SERVER, b"C", b"COMMIT"),
}
AFTER_COPY = ("COMMIT asked", "COMMIT under way", "COMMIT answered")
LATER_SECONDS = 0.003  # at most, for "COMMIT under way"
SHIP_SECONDS = 60.0
AGAIN = 0.25  # share of kills that strike the very next attempt, before anything was shipped


class Strike(msgspec.Struct, frozen=True):
    """One kill, as the seed says it."""

    moment: str
    later_seconds: float
    at_once: bool  # do not wait until what was spooled before is in the ledger


def plan_strikes(seed: str, kills: int) -> list[Strike]:
    """`kills` of them, all moments equally often."""
    dice = random.Random(f"strikes {seed}")
    moments = [list(MOMENTS)[place % len(MOMENTS)] for place in range(kills)]
    dice.shuffle(moments)
    return [
        Strike(moment, dice.random() * LATER_SECONDS if moment == "COMMIT under way" else 0.0, dice.random() < AGAIN)
        for moment in moments
    ]


def run_round(workshop: Workshop, *, seed: int, number: int, kills: int, calls: int) -> dict[str, Any]:
    """One round: a spool that grows, a shipper, and a Postgres that dies in the middle of every batch."""
    name = f"{seed}.{number}"
    run_command(["migrate"], workshop.stack.environ)
    keeper = PostgresKeeper(workshop)
    sniper = _Sniper(keeper, random.Random(f"victims {name}"))
    tap = Wiretap(workshop.database_url, sniper.watch)
    spool_dir = workshop.folder / "spool"
    config = workshop.folder / "sidecar.toml"
    plan = SidecarPlan(listen_port=1, admin_port=2, spool_dir=spool_dir, upstream="http://127.0.0.1:3")
    config.write_text(plan.to_toml())
    environ = workshop.stack.environ | {"METERING_DATABASE_URL": tap.url}
    writer = SpoolWriter.open(spool_dir / "worker-0", segment_bytes=256 * 1024)
    begun = time.monotonic()
    shipper = Program(("ship", "--config", str(config), *parent_option()), environ, workshop.folder / "ship.log")
    try:
        spooled = _shoot(workshop, sniper, plan_strikes(name, kills), writer, -(-calls // kills))
    finally:
        shipper.stop()
        writer.close()
        keeper.stop()
        tap.close()
    seconds = time.monotonic() - begun
    status = read_status(spool_dir / "worker-0")
    return {
        "kills": dict(sniper.kills),
        "calls": spooled,
        "committed_unheard": status.totals.confirmed if status else 0,
        **compare_spooled(spooled, workshop.booked()).to_json(),
        "seconds": round(seconds, 1),
    }


def _shoot(workshop: Workshop, sniper: "_Sniper", strikes: list[Strike], writer: SpoolWriter, share: int) -> int:
    """Spool `share` calls for each strike and wait for it; how many were spooled, and shipped in the end."""
    spooled = 0
    for strike in strikes:
        sniper.aim(strike)
        append_calls(writer, range(spooled + 1, spooled + share + 1))
        spooled += share
        sniper.wait()
        if not strike.at_once:
            workshop.wait_until_shipped(spooled, SHIP_SECONDS)
    workshop.wait_until_shipped(spooled, SHIP_SECONDS)
    return spooled


class _Sniper:
    """Watches the wire and kills Postgres once, at the moment it was told."""

    def __init__(self, keeper: PostgresKeeper, dice: random.Random) -> None:
        self._keeper, self._dice = keeper, dice
        self._strike: Strike | None = None
        self._copied = False
        self._struck = threading.Event()
        self.kills: Counter[str] = Counter()

    def aim(self, strike: Strike) -> None:
        self._copied = False
        self._struck.clear()
        self._strike = strike

    def wait(self) -> None:
        """Return when it has struck."""
        if not self._struck.wait(SHIP_SECONDS):
            raise MeteringError(f"the shipper did not come to {self._strike} in {SHIP_SECONDS:.0f} s")

    def watch(self, message: Message) -> Move:
        """Called by the wiretap, from its threads."""
        strike = self._strike
        if strike is None:
            return Move.PASS
        # The shipper commits other things too: only a COMMIT behind a COPY is a batch's.
        self._copied = self._copied or _is("COPY asked", message)
        if not _is(strike.moment, message) or (strike.moment in AFTER_COPY and not self._copied):
            return Move.PASS
        self._strike = None
        threading.Thread(target=self._kill, args=(strike,)).start()
        if strike.moment == "COMMIT answered":
            return Move.CUT_BEFORE  # committed, and the shipper never hears of it
        return Move.PASS

    def _kill(self, strike: Strike) -> None:
        time.sleep(strike.later_seconds)
        self._keeper.kill(self._dice)
        self.kills[strike.moment] += 1
        self._struck.set()


def _is(moment: str, message: Message) -> bool:
    side, kinds, words = MOMENTS[moment]
    return message.side is side and message.kind != b"" and message.kind in kinds and words in message.payload
