"""What the replays share: a ledger and a path of their own in a temporary folder, and the sums in the books."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from metering.core.usage import INPUT_METERS, OUTPUT_METERS
from metering.lab.books import BookedCall
from metering.lab.programs import ask_command
from metering.lab.sidecar_plan import PlannedKey
from metering.lab.stack import Stack
from metering.ledger.embedded import EmbeddedPostgres
from metering.sidecar.keys import hash_secret, mint_secret

TRACES = Path(__file__).resolve().parents[2] / "shared" / "traces"

Sums = dict[str, tuple[int, int, int]]  # name -> (calls, input tokens, output tokens)


class Workshop:
    """A running Postgres, and a stack to be started before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.database_url = self.postgres.start()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
        environ |= {"METERING_DATABASE_URL": self.database_url, "METERING_STATE_DIR": str(folder / "state")}
        self.stack = Stack(folder / "path", environ)

    def rows(self, query: str) -> list[Any]:
        """What a query finds."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query).fetchall()

    def wait_until_shipped(self, calls: int, within_seconds: float) -> None:
        """Return when the ledger has so many calls, however often it is away meanwhile."""
        self.stack.wait_until_shipped(lambda: self._count_calls() >= calls, within_seconds)

    def _count_calls(self) -> int:
        try:
            return int(self.rows("SELECT count(*) FROM usage_event WHERE part_of IS NULL")[0][0])
        except psycopg.OperationalError:
            return 0

    def booked(self) -> list[BookedCall]:
        """The row of each call, as the set check wants it."""
        columns = "trace_id, team, outcome, input_tokens, output_tokens"
        return [BookedCall(*row) for row in self.rows(f"SELECT {columns} FROM usage_event WHERE part_of IS NULL")]

    def event_sums(self, name: str) -> Sums:
        """Calls and inclusive tokens in `usage_event` by `team` or `model`."""
        column = "coalesce(response_model, request_model)" if name == "model" else name
        sums = "count(*) FILTER (WHERE part_of IS NULL)"
        sums += ", coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint"
        return _sums(self.rows(f"SELECT {column}, {sums} FROM usage_event GROUP BY 1"))

    def slot_sums(self, name: str) -> Sums:
        """Calls and tokens of all disjoint meters in `usage_slot` by `team` or `model`."""
        read, written = (
            "coalesce(sum(" + " + ".join(f"{meter}_quantity" for meter in meters) + "), 0)::bigint"
            for meters in (INPUT_METERS, OUTPUT_METERS)
        )
        slots = "usage_slot JOIN usage_dimension USING (dimension_id)"
        return _sums(self.rows(f"SELECT {name}, sum(calls)::bigint, {read}, {written} FROM {slots} GROUP BY 1"))

    def statement_sums(self, name: str, period: str) -> Sums:
        """Calls and tokens on the lines of a statement by `team` or `model`."""
        statement = ask_command(["report", "--period", period, "--by", name], self.stack.environ)
        sums: Sums = {}
        for line in statement["lines"]:
            calls, read, written = sums.get(line["name"], (0, 0, 0))
            quantities = line["quantities"]
            sums[line["name"]] = (
                calls + line["calls"],
                read + sum(quantities.get(meter, 0) for meter in INPUT_METERS),
                written + sum(quantities.get(meter, 0) for meter in OUTPUT_METERS),
            )
        return sums

    def broken_checks(self) -> list[str]:
        """The names of the checks of the books that find something."""
        return [check["check"] for check in ask_command(["verify"], self.stack.environ) if not check["holds"]]


@contextmanager
def open_workshop(prefix: str, *, keep: bool = False) -> Iterator[Workshop]:
    """A workshop in a folder in /tmp (Postgres' sockets want short paths), stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    folder.chmod(0o711)
    workshop = Workshop(folder)
    try:
        yield workshop
    finally:
        workshop.stack.stop()
        workshop.postgres.stop()
        if not keep:
            shutil.rmtree(folder)


def mint_keys(teams: Sequence[str]) -> tuple[dict[str, str], list[PlannedKey]]:
    """A key for each of `teams`: the secrets, and what the sidecar is told of them."""
    secrets = {team: mint_secret("lab") for team in teams}
    planned = [
        PlannedKey(id=team, hash=f"sha256:{hash_secret(secret.encode()).hex()}", team=team, project="replay")
        for team, secret in secrets.items()
    ]
    return secrets, planned


def _sums(rows: Sequence[Any]) -> Sums:
    return {name or "": (calls, read, written) for name, calls, read, written in rows}
