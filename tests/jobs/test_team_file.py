"""The team file: what it may say, and one sentence for everything else."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from metering.errors import InputError
from metering.jobs.team_file import read_team_file

ZURICH = ZoneInfo("Europe/Zurich")


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "teams.csv"
    path.write_text(text)
    return path


def test_dates_are_midnights_of_the_billing_zone(tmp_path: Path) -> None:
    header = "\ufeffteam,cost_center,effective_from,effective_to\n"
    text = f"{header}red,cc-1,,2026-10-01\nred,cc-2,2026-10-01T00:00:00+02:00,\n"
    directory = read_team_file(write(tmp_path, text), ZURICH)
    moved = datetime(2026, 9, 30, 22, tzinfo=UTC)
    assert [(row.cost_center, row.effective_from, row.effective_to) for row in directory.assignments] == [
        ("cc-1", None, moved),
        ("cc-2", moved, None),
    ]
    assert len(read_team_file(write(tmp_path, "team,cost_center\nred,cc\n"), ZURICH).assignments) == 1


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", "the header must be"),
        ("team,center\n", "the header must be"),
        ("team,cost_center,colour\n", "the header must be"),
        ("team,cost_center\nred\n", "as many cells"),
        ("team,cost_center\nred,\n", "neither may be empty"),
        ("team,cost_center,effective_from\nred,a,soon\n", "row 2: 'soon' is not a date"),
        ("team,cost_center\nred,a\nred,b\n", "at the same time"),
        ('team,cost_center\n"red', "not a UTF-8 CSV"),
    ],
)
def test_an_unusable_file_is_refused_in_a_sentence(tmp_path: Path, text: str, refused: str) -> None:
    with pytest.raises(InputError, match=refused):
        read_team_file(write(tmp_path, text), ZURICH)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_team_file(tmp_path / "none.csv", ZURICH)
