"""Public traces become calls: all of them, in whole tokens, the same for the same seed; bad lines are named."""

from pathlib import Path

import polars as pl
import pytest

from metering.errors import InputError
from metering.lab.traces import read_traces

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def azure_file(folder: Path, *lines: str) -> Path:
    path = folder / "azure_code.csv"
    path.write_text(AZURE + "".join(f"{line}\n" for line in lines))
    return path


def test_azure_lines_become_calls_in_order_of_time(tmp_path: Path) -> None:
    path = azure_file(tmp_path, "2023-11-16 18:17:03.9799600,4808,10", "2023-11-16 18:17:04.4799600,7,0")
    calls = list(read_traces([path]))
    assert [(call.at_ms, call.input_tokens, call.output_tokens) for call in calls] == [(0, 4808, 10), (500, 7, 0)]
    assert {call.project for call in calls} == {"code"}


@pytest.mark.parametrize("line", ["2023-11-16 18:17:03,4808", "yesterday,1,2", "2023-11-16 18:17:03,-1,2", "a,b,c,d"])
def test_a_bad_azure_line_is_named(tmp_path: Path, line: str) -> None:
    path = azure_file(tmp_path, "2023-11-16 18:17:03.9799600,4808,10", line)
    with pytest.raises(InputError, match=r"azure_code\.csv, line 3: .* mend it or take it out"):
        read_traces([path])


def test_a_csv_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="line 1: an Azure trace begins with TIMESTAMP"):
        read_traces([path])


def test_mooncake_prefix_blocks_seen_before_are_cached_tokens(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text(
        '{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}\n'
        '{"timestamp": 9, "input_length": 1500, "output_length": 6, "hash_ids": [0, 1, 7]}\n'
        '{"timestamp": 9, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}\n'
    )
    assert [call.cached_tokens for call in read_traces([path])] == [0, 1024, 1100]


@pytest.mark.parametrize("line", ["{", '{"timestamp": 0}', '{"timestamp": 0, "input_length": -1, "output_length": 1}'])
def test_a_bad_mooncake_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 1, "output_length": 5}\n' + line + "\n")
    with pytest.raises(InputError, match=r"mooncake\.jsonl, line 2: "):
        read_traces([path])


def servegen_files(folder: Path) -> list[Path]:
    tenant = {"category": "language", "model": "m-large"}
    rates = [{**tenant, "client_id": c, "ts_s": t, "rate_rps": c / 2} for c in range(4) for t in (0, 600, 21600)]
    spread = {"mean": 100.0, "p50": 90.0, "p90": 200.0, "p99": 400.0, "max": 500.0}
    tokens = [
        {**tenant, "client_id": 3, "ts_s": 0, "field": f"{side}_tokens", **spread} for side in ("input", "output")
    ]
    paths = [folder / "x_client_rate_600s.parquet", folder / "x_client_tokendist_6h.parquet"]
    pl.DataFrame(rates).write_parquet(paths[0])
    pl.DataFrame(tokens).write_parquet(paths[1])
    return paths


def test_servegen_tenants_get_calls_by_their_rate(tmp_path: Path) -> None:
    calls = list(read_traces(servegen_files(tmp_path), calls=603))
    by_team = {team: sum(call.team == team for call in calls) for team in {call.team for call in calls}}
    assert by_team == {"m-large-001": 101, "m-large-002": 201, "m-large-003": 301}
    assert all(0 < call.input_tokens <= 500 for call in calls)
    mean = sum(call.input_tokens for call in calls) / len(calls)
    assert 85 < mean < 115


def test_the_other_half_of_a_servegen_trace_is_found_beside_it(tmp_path: Path) -> None:
    rates, tokens = servegen_files(tmp_path)
    assert list(read_traces([rates], calls=50)) == list(read_traces([tokens, rates], calls=50))
    tokens.unlink()
    with pytest.raises(InputError, match="name both"):
        read_traces([rates])


def test_the_same_seed_gives_the_same_calls_and_another_seed_others(tmp_path: Path) -> None:
    paths = servegen_files(tmp_path)
    first, again, other = (list(read_traces(paths, calls=60, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv is not a file"):
        read_traces([tmp_path / "nowhere.csv"])
    (tmp_path / "trace.txt").write_text("")
    with pytest.raises(InputError, match="add --format"):
        read_traces([tmp_path / "trace.txt"])
    (tmp_path / "y_client_rate.parquet").write_text("no parquet")
    (tmp_path / "y_client_tokendist.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="can't be read as Parquet"):
        read_traces([tmp_path / "y_client_rate.parquet"])


def test_the_public_azure_files_whole(traces: Path) -> None:
    calls = list(read_traces(sorted(traces.glob("Azure*.csv"))))
    assert len(calls) == 28_185
    assert sum(call.input_tokens for call in calls) == 40_421_844
    assert sum(call.output_tokens for call in calls) == 4_334_561
    assert {call.project for call in calls} == {"code", "conversation"}


def test_the_public_mooncake_file_whole(traces: Path) -> None:
    calls = list(read_traces([traces / "mooncake_conversation_trace.jsonl"]))
    assert len(calls) == 12_031
    assert all(0 <= call.cached_tokens <= call.input_tokens for call in calls)


def test_the_public_servegen_tenants_become_teams(traces: Path) -> None:
    calls = list(read_traces([traces / "servegen_client_rate_600s.parquet"], calls=5_000))
    assert len(calls) == 5_000
    assert len({call.team for call in calls}) == 421  # one of the 422 never called
