"""Run `sql/checks/`: one invariant of the books a file, and an empty answer means that it holds."""

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, text, true, update

from metering.ledger.assets import assets
from metering.ledger.engine import Connection, Engine, transaction
from metering.ledger.schema.events import usage_event_conflict

CHECK_SECONDS = 900
ROWS_MAX = 20  # enough to see what is wrong; a broken ledger may have millions


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str  # the file's name
    states: str  # the invariant, in the file's own words
    rows: list[dict[str, Any]]  # what breaks it, at most ROWS_MAX; values as JSON knows them
    more: bool  # there are more rows than these

    @property
    def holds(self) -> bool:
        """Nothing breaks the invariant."""
        return not self.rows


def check_files() -> list[Path]:
    """The files of all checks, by name."""
    return sorted((assets("sql") / "checks").glob("*.sql"))


def run_checks(engine: Engine) -> Iterator[CheckResult]:
    """Run every check, each on one snapshot of the ledger, so that shipping and counting may go on meanwhile."""
    for file in check_files():
        with transaction(engine) as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.execute(func.set_config("statement_timeout", f"{CHECK_SECONDS}s", true()).select())
            yield run_check(connection, file)


def acknowledge_conflicts(engine: Engine) -> int:
    """Mark the records set aside as seen, so that `conflicts.sql` reports only later ones; how many were marked."""
    with transaction(engine) as connection:
        unseen = update(usage_event_conflict).where(usage_event_conflict.c.acknowledged_at.is_(None))
        return connection.execute(unseen.values(acknowledged_at=func.now())).rowcount


def run_check(connection: Connection, file: Path) -> CheckResult:
    """Run the check in `file`, inside a transaction."""
    query = file.read_text("utf-8")
    # Else the planner takes a table's CHECK for proof and answers without reading a row: a check must look.
    connection.execute(func.set_config("constraint_exclusion", "off", true()).select())
    found = connection.execute(text(query)).mappings().fetchmany(ROWS_MAX + 1)
    rows = [{name: _plain(value) for name, value in row.items()} for row in found]
    return CheckResult(check=file.stem, states=_states(query), rows=rows[:ROWS_MAX], more=len(rows) > ROWS_MAX)


def _states(query: str) -> str:
    """The first sentence of the comment the file begins with, without the invariant's name."""
    comment = [line.removeprefix("--").strip() for line in query.splitlines() if line.startswith("--")]
    return " ".join(comment).partition(": ")[2].partition(". ")[0].rstrip(".")


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int | list):
        return value
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
