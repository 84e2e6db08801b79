import json
import subprocess
import sys
from pathlib import Path

import pytest

from metering.core.dialects import DIALECTS

OURS = Path(__file__).parents[1] / "recordings"


def _check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metering", "dialects", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_json_has_the_counts_and_nothing_else_on_stdout() -> None:
    done = _check(str(OURS), "--output", "json", "--cuts", "2", "--seed", "3")
    printed = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert printed["checked"] == printed["equal"] == len(list(OURS.rglob("*.json")))
    assert (printed["different"], printed["ambiguous"], printed["unsupported"], printed["errors"]) == (0, 0, 0, 0)
    assert (printed["cuts"], printed["seed"], printed["files"]) == (2, 3, [])


def test_the_table_counts_each_dialect() -> None:
    done = _check(str(OURS), "--cuts", "1")
    assert done.returncode == 0
    assert "anthropic.messages.vertex" in done.stdout


@pytest.mark.parametrize("output", ["json", "table"])
def test_a_difference_is_shown_and_fails(tmp_path: Path, output: str) -> None:
    recording = json.loads((OURS / "openai.chat" / "body.json").read_text())
    recording["expected_usage"]["input_tokens"] = 20
    (tmp_path / "a.json").write_text(json.dumps(recording))
    (tmp_path / "b.json").write_text("not json")
    done = _check(str(tmp_path), "--output", output)
    assert done.returncode == 1
    if output == "json":
        printed = json.loads(done.stdout)
        assert (printed["different"], printed["errors"]) == (1, 1)
        assert printed["files"][0]["differences"] == [{"name": "input_tokens", "expected": 20, "read": 19}]
        assert printed["files"][0]["reading"]["usage"]["input_tokens"] == 19
    else:
        assert "input_tokens expected 20, read 19" in done.stdout


def test_no_folder_is_one_sentence() -> None:
    done = _check("/nonexistent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "metering: /nonexistent is not a folder: name one that holds recorded exchanges\n"


def _list(output: str) -> str:
    command = [sys.executable, "-m", "metering", "dialects", "list", "--output", output]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_list_names_every_dialect_in_every_output() -> None:
    names = [row["dialect"] for row in json.loads(_list("json"))]
    assert names == list(DIALECTS)
    consuming = [name for name, dialect in DIALECTS.items() if dialect.consumes is not False]
    for output in ("table", "csv", "markdown"):
        printed = _list(output)
        assert [name for name in consuming if name not in printed] == []
