import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from metering.core.dialects import MEANINGS, Reading
from metering.core.usage import Usage
from metering.errors import InputError
from metering.jobs.check_dialects import check_recordings
from metering.jobs.compare_usage import compare

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
        "expected_usage": {"input_tokens": 3, "output_tokens": 4, "seats": 5},
    }
    (folder / name).write_text(json.dumps(recording | changes))


def test_every_recorded_exchange_reads_as_expected(recordings: Path) -> None:
    check = check_recordings(recordings, cuts=5, seed=42)
    assert [file for file in check.files if file.verdict in ("different", "error")] == []
    assert (check.checked, check.different, check.errors) == (1061, 0, 0)
    assert check.equal + check.ambiguous + check.unsupported == check.checked
    # Classified from the URL alone, every label of a dialect that is read comes out the same.
    disagreements = {label for label in check.label_disagreements if label.split(" ")[0] in MEANINGS}
    assert disagreements <= {"hf.inference → unknown"}  # a list of models, whoever is asked for it
    assert not set(check.unsupported_labels) & set(MEANINGS)


def test_verdicts(tmp_path: Path) -> None:
    _write(tmp_path, "equal.json")
    _write(tmp_path, "different.json", expected_usage={"input_tokens": 3, "output_tokens": 5, "reasoning_tokens": 0})
    _write(tmp_path, "extra.json", expected_usage=None)
    _write(tmp_path, "ambiguous.json", expected_ambiguous=True, expected_usage={"input_tokens": 9})
    _write(tmp_path, "unsupported.json", url="https://x/v9/novel")
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
    assert check.not_compared == {"seats": 3}
    told = {file.file: [(d.name, d.expected, d.read) for d in file.differences] for file in check.files}
    assert told["different.json"] == [("output_tokens", 5, 4), ("reasoning_tokens", 0, None)]
    assert told["extra.json"] == [("input_tokens", None, 3), ("output_tokens", None, 4)]
    assert all(file.problem.startswith("not a recording") for file in check.files if file.verdict == "error")


def _read_of(**told: Any) -> Reading:
    return Reading(usage=Usage(**told.pop("usage", {})), **told)


@pytest.mark.parametrize(
    ("name", "value", "equal", "different"),
    [
        (
            "audio_seconds",
            3.6999376,
            _read_of(usage={"audio_input_ms": 3700}),
            _read_of(usage={"audio_input_ms": 3699}),
        ),
        ("predict_time_s", 2.8, _read_of(usage={"compute_ms": 2800}), _read_of()),
        ("total_tokens_reported", 7, _read_of(raw_usage={"totalTokens": 7}), _read_of(raw_usage={"total_tokens": 8})),
        ("cost_usd_reported", 1.2e-08, _read_of(reported_cost=Decimal("1.2E-8")), _read_of()),
        ("cost_usd_ticks_reported", 5, _read_of(reported_cost=Decimal("5E-10")), _read_of(reported_cost=Decimal(5))),
        ("cost_usd_ticks_reported", 0, _read_of(), _read_of(reported_cost=Decimal(0))),
        ("counted_input_tokens", 9, Reading(), _read_of()),
        (
            "num_server_side_tools_used",
            5,
            _read_of(usage={"tool_requests": 3, "web_search_requests": 2}),
            _read_of(usage={"web_search_requests": 5}),
        ),
    ],
)
def test_what_is_compared_in_our_units(name: str, value: Any, equal: Reading, different: Reading) -> None:
    assert compare({name: value}, equal) == []
    assert [difference.name for difference in compare({name: value}, different)] == [name]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recordings in"):
        check_recordings(tmp_path)


def test_the_same_seed_cuts_the_same(tmp_path: Path) -> None:
    _write(tmp_path, "equal.json")
    assert check_recordings(tmp_path, cuts=3, seed=5) == check_recordings(tmp_path, cuts=3, seed=5)
