"""Compose a period's statement from the ledger: slots × prices × teams, all seen in one snapshot."""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import msgspec

from metering.core.period import Period
from metering.core.placement import By
from metering.core.prices import PriceBook, boundaries
from metering.core.rating import Charge, Problem, price_key, rate
from metering.core.slot import SlotTotal
from metering.core.statement import Provenance, Statement, compose
from metering.core.teams import TeamDirectory
from metering.ledger.engine import Connection, Engine
from metering.ledger.prices import PriceVersion, current_versions, load_book
from metering.ledger.slots import slot_totals
from metering.ledger.snapshot import snapshot, watermark
from metering.ledger.teams import load_directory


class RatedPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """A period's usage, cut where prices and owners change, with its charges and what they were made of."""

    period: Period
    cuts: Sequence[datetime]
    totals: Sequence[SlotTotal]
    charges: Sequence[Charge]
    problems: Sequence[Problem]
    book: PriceBook
    versions: Sequence[PriceVersion]
    directory: TeamDirectory
    ledger_watermark: int


def compose_statement(engine: Engine, period: Period, by: By) -> Statement:
    """The statement of `period` as the ledger stands now. Reads only."""
    with snapshot(engine) as connection:
        rated = rate_period(connection, period)
    return compose_rated(rated, by)


def compose_rated(rated: RatedPeriod, by: By) -> Statement:
    """The statement made of `rated`, by `by`."""
    provenance = Provenance(
        price_book_digest=rated.book.digest,
        price_book_versions=tuple(version.label for version in rated.versions),
        team_directory_digest=rated.directory.digest,
        ledger_watermark=rated.ledger_watermark,
        code_version=code_version(),
    )
    return compose(rated.totals, (rated.charges, rated.problems), by, rated.period, rated.directory, provenance)


def rate_period(connection: Connection, period: Period) -> RatedPeriod:
    """Everything a statement needs. Give it a snapshot, or what it reads may not belong together."""
    versions = current_versions(connection)
    book = load_book(connection, [version.version_id for version in versions])
    directory = load_directory(connection)
    totals, cuts = _cut_totals(connection, period, book, directory)
    charges, problems = rate(totals, book, period, cuts)
    return RatedPeriod(
        period=period,
        cuts=cuts,
        totals=totals,
        charges=charges,
        problems=problems,
        book=book,
        versions=versions,
        directory=directory,
        ledger_watermark=watermark(connection),
    )


def code_version() -> str:
    """The installed version of metering; `0` when it runs from a folder nobody installed."""
    try:
        return version("metering")
    except PackageNotFoundError:
        return "0"


def _cut_totals(
    connection: Connection, period: Period, book: PriceBook, directory: TeamDirectory
) -> tuple[list[SlotTotal], list[datetime]]:
    """The totals, and the instants they are cut at: only where something that is in use changes."""
    whole = slot_totals(connection, period, ())
    keys = {price_key(total.dimension) for total in whole}
    cuts = sorted({*boundaries(book, keys, period), *directory.boundaries(period)})
    return (slot_totals(connection, period, cuts) if cuts else whole), cuts
