import json
from pathlib import Path

import pytest

from metering.core.dialects import MEANINGS
from metering.errors import InputError
from metering.jobs.check_dialects import check_recordings

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def _write(folder: Path, name: str, **changes: object) -> None:
    recording: dict[str, object] = {
        "provider": "openai",
        "dialect": "openai.chat",
        "method": "POST",
        "url": "https://api.openai.com/v1/chat/completions",
        "status": 200,
        "response_headers": {"Content-Type": ["application/json"]},
        "response_body": json.dumps({"usage": USAGE}),
        "expected_usage": {"input_tokens": 3, "output_tokens": 4, "cost_usd_reported": 0.5},
    }
    (folder / name).write_text(json.dumps(recording | changes))


def test_every_recorded_exchange_reads_as_expected(recordings: Path) -> None:
    check = check_recordings(recordings, cuts=5, seed=42)
    assert [file for file in check.files if file.verdict in ("different", "error")] == []
    assert (check.checked, check.different, check.errors, check.ambiguous) == (1061, 0, 0, 5)
    assert check.equal + check.ambiguous + check.unsupported == check.checked
    assert set(MEANINGS) <= set(check.dialects)
    # Classified from the URL alone, every label of a dialect that is read comes out the same.
    assert not [label for label in check.label_disagreements if label.split(" ")[0] in MEANINGS]
    assert not set(check.unsupported_labels) & set(MEANINGS)


def test_verdicts(tmp_path: Path) -> None:
    _write(tmp_path, "equal.json")
    _write(tmp_path, "different.json", expected_usage={"input_tokens": 3, "output_tokens": 5, "reasoning_tokens": 0})
    _write(tmp_path, "extra.json", expected_usage=None)
    _write(tmp_path, "ambiguous.json", expected_ambiguous=True, expected_usage={"input_tokens": 9})
    _write(tmp_path, "unsupported.json", url="https://x/v1beta/models/gemini-2.5-flash:generateContent")
    _write(tmp_path, "source.json", expected_source="partial")
    _write(tmp_path, "relabelled.json", dialect="openai.completions")
    (tmp_path / "no_json.json").write_text("{")
    _write(tmp_path, "no_base64.json", response_body_b64="*")
    _write(tmp_path, "no_url.json", url=7)
    check = check_recordings(tmp_path, cuts=2)
    verdicts = {file.file: file.verdict for file in check.files}
    assert verdicts == {
        "different.json": "different",
        "extra.json": "different",
        "source.json": "different",
        "ambiguous.json": "ambiguous",
        "no_json.json": "error",
        "no_base64.json": "error",
        "no_url.json": "error",
    }
    assert (check.checked, check.equal, check.different, check.ambiguous, check.unsupported, check.errors) == (
        10,
        2,
        3,
        1,
        1,
        3,
    )
    assert check.dialects == {"openai.chat": {"ambiguous": 1, "different": 3, "equal": 2}, "unknown": {"error": 3}}
    assert check.label_disagreements == {"openai.completions → openai.chat": 1}
    assert check.not_compared == {"cost_usd_reported": 3}
    told = {file.file: [(d.name, d.expected, d.read) for d in file.differences] for file in check.files}
    assert told["different.json"] == [("output_tokens", 5, 4), ("reasoning_tokens", 0, None)]
    assert told["extra.json"] == [("input_tokens", None, 3), ("output_tokens", None, 4)]
    assert all(file.problem.startswith("not a recording") for file in check.files if file.verdict == "error")


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings in"):
        check_recordings(tmp_path)


def test_the_same_seed_cuts_the_same(tmp_path: Path) -> None:
    _write(tmp_path, "equal.json")
    assert check_recordings(tmp_path, cuts=3, seed=5) == check_recordings(tmp_path, cuts=3, seed=5)
