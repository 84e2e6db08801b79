"""Prices in the ledger: versions that nobody can change, and a book that is read back as it was written."""

from datetime import UTC, datetime, time
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text

from metering.core.model_match import Match
from metering.core.prices import PriceBook, ProviderRule
from metering.core.sku_price import Layer, PriceKind, SkuPrice
from metering.core.teams import TeamAssignment, TeamDirectory
from metering.core.usage import Meter
from metering.errors import InputError, LedgerError
from metering.jobs.import_prices import import_prices
from metering.jobs.published_prices import PriceList, read_published
from metering.ledger.engine import transaction
from metering.ledger.prices import current_versions, load_book
from metering.ledger.teams import load_directory, replace_directory
from tests.worlds import october, price

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def own(*prices: SkuPrice, name: str = "own.toml", version: str = "1") -> PriceList:
    return PriceList(source_name=name, source_version=version, layer=Layer.OWN, prices=list(prices))


def book_in_force(engine: Engine) -> PriceBook:
    with transaction(engine) as connection:
        return load_book(connection)


def test_a_book_is_read_back_as_it_was_written(engine: Engine) -> None:
    rows = [
        price("0.000000000001", effective_from=october(1), effective_to=october(2, 3, 15), source="own.toml 1"),
        price("99999999", Meter.WEB_SEARCH, unit_quantity=1_000, currency="JPY", kind=PriceKind.CONTRACTED),
        price(
            "1",
            daily_from=time(22, 45),
            daily_to=time(0),
            service_tier="batch",
            region="eu",
            context_over_tokens=200_000,
        ),
        price(
            "0",
            match=Match(any_of=(Match(equals="a"), Match(all_of=(Match(contains="b"), Match(regex="c$"))))),
            match_order=4,
        ),
    ]
    rules = [ProviderRule(provider_name="acme", match=Match(contains="road"), serves=("maker",))]
    written = PriceList(source_name="s", source_version="1", layer=Layer.OWN, prices=rows, rules=rules)
    import_prices(engine, written, NOW)
    read = book_in_force(engine)
    assert read.prices == PriceBook(rows, rules).prices
    assert (read.rules, read.digest) == ({"acme": rules[0]}, PriceBook(rows, rules).digest)


def test_the_published_list_fits_and_is_imported_once(engine: Engine) -> None:
    published = read_published()
    first, again = (import_prices(engine, published, NOW) for _ in range(2))
    assert (first.changed, first.added, again.changed) == (True, len(published.prices), False)
    assert again.version == first.version
    assert book_in_force(engine).digest == first.version.digest == PriceBook(published.prices, published.rules).digest


def test_a_new_version_supersedes_its_own_source_only(engine: Engine) -> None:
    import_prices(engine, own(price("1"), price("2", Meter.OUTPUT)), NOW)
    import_prices(engine, own(price("5", model="other"), name="b.toml"), NOW)
    result = import_prices(engine, own(price("1"), price("3", Meter.OUTPUT), version="2"), NOW)
    assert (result.changed, result.added, result.dropped) == (True, 1, 1)
    assert sorted(str(row.unit_price) for row in book_in_force(engine).prices) == ["1", "3", "5"]
    with transaction(engine) as connection:
        labels = [version.label for version in current_versions(connection)]
        assert labels == ["b.toml 1 #2", "own.toml 2 #3"]
        assert sorted(str(row.unit_price) for row in load_book(connection, [1]).prices) == ["1", "2"]


def test_overlaps_between_two_files_are_refused_and_nothing_is_written(engine: Engine) -> None:
    import_prices(engine, own(price("1", source="own.toml 1")), NOW)
    with pytest.raises(InputError, match=r"overlap: .*b.toml 1"):
        import_prices(engine, own(price("2", source="b.toml 1", effective_from=october(1)), name="b.toml"), NOW)
    with transaction(engine) as connection:
        assert [version.source_name for version in current_versions(connection)] == ["own.toml"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sku_price SET unit_price = 0",
        "DELETE FROM sku_price",
        "UPDATE price_book_version SET source_version = 'x'",
        "UPDATE team_cost_center SET cost_center = 'x'",
        "TRUNCATE sku_price",
        "DELETE FROM team_directory_version",
    ],
)
def test_what_was_imported_can_not_be_changed(engine: Engine, change: str) -> None:
    import_prices(engine, own(price("1")), NOW)
    with pytest.raises(LedgerError, match="never changed"), transaction(engine) as connection:
        connection.execute(text(change))
    assert book_in_force(engine).prices[0].unit_price == Decimal(1)


def test_the_team_directory_is_replaced_as_a_whole_and_only_when_it_differs(engine: Engine) -> None:
    first = TeamDirectory([TeamAssignment(team="red", cost_center="a", effective_to=october(5))])
    second = TeamDirectory([*first.assignments, TeamAssignment(team="red", cost_center="b", effective_from=october(5))])
    with transaction(engine) as connection:
        assert load_directory(connection).assignments == ()
        assert [replace_directory(connection, each, NOW) for each in (first, first, second)] == [True, False, True]
        assert load_directory(connection).assignments == second.assignments
        assert load_directory(connection).digest == second.digest
        assert replace_directory(connection, TeamDirectory(), NOW)
        assert load_directory(connection).assignments == ()
