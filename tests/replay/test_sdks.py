"""Every recorded exchange that a provider's SDK can ask for: it makes the same of the answer with and without us."""

from pathlib import Path

import pytest

from tests.clients.conftest import new_trace
from tests.replay.drivers import driver_of, outcome
from tests.replay.recorded import OURS, SHARED, Recorded, check_rows, load
from tests.replay.stage import open_stage


@pytest.mark.parametrize("folder", [OURS, SHARED], ids=["ours", "shared"])
def test_sdks_make_the_same_of_it(tmp_path: Path, folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"no recordings beside the project: {folder} is absent")
    exchanges = [(recorded, driver) for recorded in load(folder) if (driver := driver_of(recorded))]
    traces: dict[str, Recorded] = {}
    failed: list[str] = []
    with open_stage(tmp_path, [recorded for recorded, _ in exchanges]) as stage:
        for recorded, driver in exchanges:
            trace_id, headers = new_trace()
            direct = outcome(driver, stage.base(recorded, direct=True), recorded, headers)
            through = outcome(driver, stage.base(recorded, direct=False), recorded, headers)
            assert through == direct, recorded.name
            traces[trace_id] = recorded
            if isinstance(direct, tuple) and recorded.recording.status == 200:
                failed.append(f"{recorded.name}: {direct[0]}")
        events = stage.events()
    wrong = {
        recorded.name: found
        for trace_id, recorded in traces.items()
        if (found := check_rows(events.get(trace_id, []), recorded))
    }
    assert wrong == {}
    # Else the drivers show nothing: a few of the recordings, and more of ours, are broken on purpose.
    assert len(failed) < len(exchanges) // 5, failed
