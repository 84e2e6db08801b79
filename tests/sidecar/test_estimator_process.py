"""The estimator as a process of a running sidecar: texts in, rows out, a text nowhere else, kills under load."""

import http.client
import os
import signal
import threading
from pathlib import Path

import msgspec

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from metering.sidecar.estimate.jobs import SOCKET_NAME
from tests.sidecar.programs import Sidecar, fetch, finals, running, until, upstream_thread
from tests.sidecar.rig import chunk, serve

CANARY = "zanzibar-quetzalcoatl"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"c-1","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"'
    + CANARY.encode()
    + b'"}}]}\n\n'
)
PLAIN = (HEAD, *[chunk(EVENT)] * 4, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
REQUEST = msgspec.json.encode({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": CANARY}]})


def ask(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/openai/v1/chat/completions", REQUEST)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def rows(folder: Path) -> list[UsageEvent]:
    lines = [line for path in (folder / "state").rglob("*.seg") for line in path.read_bytes().splitlines()]
    finals = [line.split(b" ", 3)[3] for line in lines if line.split(b" ", 3)[2] == b"F"]
    return [msgspec.json.decode(line, type=UsageEvent) for line in finals]


def estimator(sidecar: Sidecar) -> int:
    pid = sidecar.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (found,) = (
        int(each) for each in children if b"metering.sidecar.estimate" in Path(f"/proc/{each}/cmdline").read_bytes()
    )
    return found


def test_a_text_is_counted_and_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    with upstream_thread(serve(*PLAIN)) as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, admin):
        assert CANARY.encode() in ask(port)
        until(lambda: finals(tmp_path) == 1)
        assert "metering_estimates_made_total 1\n" in fetch(admin, "/metrics")[1]
        socket = tmp_path / "state" / "spool" / SOCKET_NAME
        assert socket.stat().st_mode & 0o777 == 0o600
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.end() == 0
        assert not any(CANARY in line for line in sidecar.said)
    (row,) = rows(tmp_path)
    assert (row.usage_source, row.outcome) == (UsageSource.ESTIMATED, Outcome.COMPLETED)
    assert row.estimator
    assert row.estimator.endswith(" o200k_base")
    assert row.usage
    assert row.usage.input_tokens
    assert row.usage.output_tokens
    assert 4 * 4 <= row.usage.output_tokens <= 4 * 12
    texts = [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert texts == []


def test_kills_under_load_cost_counts_and_never_rows(tmp_path: Path) -> None:
    calls, threads = 60, 4
    with upstream_thread(serve(*PLAIN)) as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, _):
        wrong: list[bytes] = []

        def load() -> None:
            for _ in range(calls // threads):
                answer = ask(port)
                if answer != EVENT * 4 + b"data: [DONE]\n\n":
                    wrong.append(answer)

        clients = [threading.Thread(target=load) for _ in range(threads)]
        for client in clients:
            client.start()
        for _ in range(2):
            os.kill(killed := estimator(sidecar), signal.SIGKILL)
            sidecar.wait_for("child_died")
            until(lambda killed=killed: is_another(sidecar, killed))  # type: ignore[misc]
        for client in clients:
            client.join()
        assert wrong == []
        until(lambda: finals(tmp_path) == calls)
    found = rows(tmp_path)
    assert len({row.event_id for row in found}) == calls
    assert {row.outcome for row in found} == {Outcome.COMPLETED}
    assert {row.usage_source for row in found} <= {UsageSource.ESTIMATED, UsageSource.UNKNOWN}
    assert sum(row.usage_source is UsageSource.ESTIMATED for row in found) >= calls - 2 * 8  # what it had when it died


def is_another(sidecar: Sidecar, killed: int) -> bool:
    try:
        return estimator(sidecar) != killed
    except (ValueError, FileNotFoundError):
        return False  # between two


def test_a_sidecar_that_estimates_nothing_starts_none(tmp_path: Path) -> None:
    off = '[estimate]\nenabled = "off"'
    with upstream_thread(serve(*PLAIN)) as upstream_port, running(tmp_path, upstream_port, off) as (sidecar, port, _):
        ask(port)
        until(lambda: finals(tmp_path) == 1)
        assert not any("estimator" in line for line in sidecar.said)
        assert not (tmp_path / "state" / "spool" / SOCKET_NAME).exists()
    assert [row.usage_source for row in rows(tmp_path)] == [UsageSource.UNKNOWN]


def test_a_file_read_again_has_its_say(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.toml"
    with upstream_thread(serve(*PLAIN)) as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, _):
        sidecar.wait_for("estimator_listening")
        config.write_text(config.read_text() + 'estimate = "off"\n')
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.wait_for("config_in_force")
        until(lambda: not is_another(sidecar, 0))
        config.write_text(config.read_text().replace('"off"', '"on"'))
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.wait_for("config_in_force")
        until(lambda: len(sidecar.workers()) == 1 and is_another(sidecar, 0))
        ask(port)
        until(lambda: finals(tmp_path) == 1)
    assert [row.usage_source for row in rows(tmp_path)] == [UsageSource.ESTIMATED]
