"""The environment is parsed once, and every mistake in it is one sentence."""

import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from metering.errors import ConfigError
from metering.settings import VARIABLES, Settings, parse_settings

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_nothing_set_gives_the_embedded_ledger_in_utc_and_dollars() -> None:
    settings = parse_settings({"METERING_STATE_DIR": "/srv/metering"})
    assert settings == Settings(
        database_url=None, state_dir=Path("/srv/metering"), billing_zone=ZoneInfo("UTC"), billing_currency="USD"
    )


def test_everything_set() -> None:
    settings = parse_settings(
        {
            "METERING_DATABASE_URL": "postgresql://meter:secret@db/metering",
            "METERING_STATE_DIR": "/srv/../srv/metering",
            "METERING_BILLING_ZONE": "Europe/Zurich",
            "METERING_BILLING_CURRENCY": "CHF",
            "PATH": "/bin",
        }
    )
    assert settings.database_url == "postgresql://meter:secret@db/metering"
    assert settings.state_dir == Path("/srv/metering")
    assert (settings.billing_zone, settings.billing_currency) == (ZoneInfo("Europe/Zurich"), "CHF")


@pytest.mark.skipif(os.geteuid() == 0, reason="root keeps its state in /var/lib/metering")
def test_the_state_of_a_normal_user_is_where_xdg_says() -> None:
    assert parse_settings({"HOME": "/home/ada"}).state_dir == Path("/home/ada/.local/state/metering")
    assert parse_settings({"HOME": "/home/ada", "XDG_STATE_HOME": "/big"}).state_dir == Path("/big/metering")


@pytest.mark.skipif(os.geteuid() != 0, reason="a normal user keeps its state in its home")
def test_the_state_of_root_is_where_an_unprivileged_postgres_may_go() -> None:
    assert parse_settings({"HOME": "/r", "XDG_STATE_HOME": "/r/s"}).state_dir == Path("/var/lib/metering")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("METERING_DATABASE_URI", "x", "unknown setting METERING_DATABASE_URI: known are METERING_BILLING_CURRENCY,"),
        ("METERING_DATABASE_URL", "mysql://db/metering", "must look like postgresql://"),
        ("METERING_BILLING_ZONE", "Mars/Olympus", "'Mars/Olympus' is not an IANA time zone such as Europe/Zurich"),
        ("METERING_BILLING_ZONE", "../../etc/passwd", "is not an IANA time zone"),
        ("METERING_BILLING_CURRENCY", "usd", "'usd' is not an ISO 4217 code such as USD"),
        ("METERING_BILLING_CURRENCY", "DOLLAR", "is not an ISO 4217 code"),
    ],
)
def test_a_mistake_is_refused_with_a_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings({name: value})
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refused_database_url_is_not_repeated_for_it_may_hold_a_password() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings({"METERING_DATABASE_URL": "mysql://meter:hunter2@db/metering"})
    assert "hunter2" not in str(refused.value)


def test_names_reserved_for_tests_and_workers_are_let_through() -> None:
    assert parse_settings({"METERING_TEST_DATABASE_URL": "x", "METERING_WORKER_NUMBER": "1"}).database_url is None


def test_every_setting_is_documented_and_no_other() -> None:
    page = (DOCS / "configuration.md").read_text()
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `METERING_")}
    assert documented == VARIABLES
