"""Workers, the configuration and the program are replaced under load, and the sidecar ends: no call notices."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from benchmarks.restarts import run
from metering.core.event import Outcome, UsageEvent
from tests.sidecar.programs import WAIT_SECONDS, Sidecar, call, fetch, finals, running, until, upstream_thread
from tests.sidecar.rig import ANSWER, CHAT, Peer, stream_answer

Stream = tuple[http.client.HTTPConnection, http.client.HTTPResponse]


def test_no_call_fails_and_each_has_one_row(tmp_path: Path) -> None:
    found = asyncio.run(run(tmp_path, {"workers": 1, "config": 2, "program": 2}, seed=1))
    assert found["failures"] == []
    assert found["every_call_one_row"]
    assert found["received"] == found["calls"] > 0
    assert found["exit_code"] == 0


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_right_file_is_in_force_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "sidecar.toml"
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, admin_port):
        config.write_text(first := config.read_text() + 'labels = { team = "one" }\n')
        reload(sidecar, "config_in_force")
        sidecar.wait_for("worker_stopped")
        assert call(port) == ANSWER
        assert teams(tmp_path) == {"one": 1}
        config.write_text(config.read_text().replace("provider", "provder"))
        refused = reload(sidecar, "config_refused")
        assert refused["error"] == f'{config}: [[route]] 1 has no provider: give it one such as "openai"'
        assert call(port) == ANSWER
        # Whoever starts later is given what is in force, not what lies in the file.
        until(lambda: len(sidecar.workers()) == 1)  # the replaced one has ended
        os.kill(sidecar.workers()[0], signal.SIGKILL)
        sidecar.wait_for("child_died")
        assert call(port) == ANSWER
        assert teams(tmp_path) == {"one": 3}
        config.write_text(first.replace("one", "two"))
        assert reload(sidecar, "config_in_force")["digest"] != refused["kept"]
        assert call(port) == ANSWER
        assert teams(tmp_path) == {"one": 3, "two": 1}
        shown = fetch(admin_port, "/metrics")[1]
        assert 'metering_config_reloads_total{result="ok"} 2\n' in shown
        assert 'metering_config_reloads_total{result="failed"} 1\n' in shown


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ('listen = "127.0.0.1:0"', 'listen = "127.0.0.2:0"', "[sidecar] listen"),
        ('admin = "127.0.0.1:0"', 'admin = "off"', "[sidecar] admin"),
        ("drain_seconds = 3", "workers = 2", "[sidecar] workers"),
        ("[[route]]", '[spool]\ndir = "/tmp/elsewhere"\n[[route]]', "[spool] dir"),
    ],
)
def test_places_stay_where_they_are(tmp_path: Path, before: str, after: str, name: str) -> None:
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, _):
        config = tmp_path / "sidecar.toml"
        config.write_text(config.read_text().replace(before, after))
        assert f"{name} can't change from" in reload(sidecar, "config_refused")["error"]
        sidecar.process.send_signal(signal.SIGUSR2)  # nor for another program on the same sockets
        assert f"{name} can't change from" in sidecar.wait_for("program_not_replaced")["error"]
        assert call(port) == ANSWER


def test_a_call_ends_as_it_began(tmp_path: Path) -> None:
    """Its labels, and its stream, are of the configuration it began with."""
    with slow_upstream() as (upstream_port, go_on), running(tmp_path, upstream_port) as (sidecar, port, _):
        stream = begin_stream(port)
        config = tmp_path / "sidecar.toml"
        config.write_text(config.read_text() + 'labels = { team = "later" }\n')
        reload(sidecar, "config_in_force")
        go_on.set()
        end_stream(stream)
        until(lambda: finals(tmp_path) == 1)
        assert teams(tmp_path) == {None: 1}


def test_a_kept_connection_is_told_before_it_is_closed(tmp_path: Path) -> None:
    """A stream that began before the drain promised that its connection stays: there is one more call in it."""
    with slow_upstream() as (upstream_port, go_on), running(tmp_path, upstream_port) as (sidecar, port, _):
        connection, answer = begin_stream(port)
        reload(sidecar, "config_in_force")
        go_on.set()
        assert answer.read().endswith(b"data: [DONE]\n\n")
        sock = connection.sock
        connection.request("POST", "/openai/v1/chat/completions", CHAT)
        assert connection.sock is sock
        with contextlib.closing(connection), connection.getresponse() as answer:
            assert answer.getheader("Connection") == "close"
            assert answer.read().endswith(b"data: [DONE]\n\n")
        sidecar.wait_for("worker_stopped")


# ── the program ───────────────────────────────────────────────────────────────────────────────────────


def test_a_program_keeps_process_counts_and_streams_of_the_one_before(tmp_path: Path) -> None:
    with slow_upstream() as (upstream_port, go_on), running(tmp_path, upstream_port) as (sidecar, port, admin_port):
        stream = begin_stream(port)
        pid, workers = sidecar.process.pid, sidecar.workers()
        sidecar.process.send_signal(signal.SIGUSR2)
        assert sidecar.wait_for("sidecar_started")["port"] == port
        sidecar.wait_for("sidecar_serving")
        assert set(workers) < set(sidecar.workers())  # of the same process: the old one still streams
        go_on.set()
        end_stream(stream)
        sidecar.wait_for("worker_stopped")
        until(lambda: counted(admin_port) == 1)
        assert fetch(admin_port, "/readyz")[0] == 200
        assert sidecar.process.pid == pid
        stop(sidecar)
        assert finals(tmp_path) == 1


def test_counts_never_go_back(tmp_path: Path) -> None:
    """Not by a worker that is killed, not by one that is replaced, not by another program."""
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port) as (sidecar, port, admin_port):
        call(port)
        assert counted(admin_port) == 1
        os.kill(sidecar.workers()[0], signal.SIGKILL)
        sidecar.wait_for("child_died")
        assert counted(admin_port) == 1
        call(port)
        reload(sidecar, "config_in_force")
        sidecar.wait_for("worker_stopped")
        assert counted(admin_port) == 2
        sidecar.process.send_signal(signal.SIGUSR2)
        sidecar.wait_for("sidecar_serving")
        call(port)
        until(lambda: counted(admin_port) == 3)


def test_calls_of_a_replaced_worker_that_is_killed_get_their_rows(tmp_path: Path) -> None:
    """Nobody takes its spool again by chance: it is looked after."""
    with slow_upstream() as (upstream_port, _), running(tmp_path, upstream_port) as (sidecar, port, _):
        stream = begin_stream(port)
        old = sidecar.workers()[0]
        for _ in range(2):  # the second one's successor takes the first free spool, which isn't this one
            reload(sidecar, "config_in_force")
        os.kill(old, signal.SIGKILL)
        until(lambda: finals(tmp_path) == 1)
        with stream[1], pytest.raises((OSError, http.client.HTTPException)):
            end_stream(stream)


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_in_flight_ends_and_new_connections_are_refused(tmp_path: Path) -> None:
    with slow_upstream() as (upstream_port, go_on), running(tmp_path, upstream_port) as (sidecar, port, admin_port):
        stream = begin_stream(port)
        sidecar.process.send_signal(signal.SIGTERM)
        until(lambda: is_refused(port))
        assert fetch(admin_port, "/readyz") == (
            503, '{"ready":false,"reasons":["the sidecar is stopping"],"warnings":[]}\n',
        )  # fmt: skip
        assert fetch(admin_port, "/healthz")[0] == 200
        go_on.set()
        end_stream(stream)
        assert sidecar.end() == 0
        assert outcomes(tmp_path) == [Outcome.COMPLETED]


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with slow_upstream() as (upstream_port, _), running(tmp_path, upstream_port, drain_seconds=600) as found:
        sidecar, port, _ = found
        stream = begin_stream(port)
        sidecar.process.send_signal(signal.SIGINT)
        until(lambda: is_refused(port))
        sidecar.process.send_signal(signal.SIGINT)
        assert sidecar.end() == 0
        assert outcomes(tmp_path) == [Outcome.INTERRUPTED]
        with pytest.raises((OSError, http.client.HTTPException)):
            end_stream(stream)


def test_a_full_spool_that_refuses_calls_is_not_ready(tmp_path: Path) -> None:
    spool = '[spool]\nmax_bytes = "64KiB"\nsegment_bytes = "64KiB"\non_full = "refuse"\n'
    with upstream_thread() as upstream_port, running(tmp_path, upstream_port, spool) as (_, port, admin_port):
        until(lambda: b"spool is full" in call(port))
        status, said = fetch(admin_port, "/readyz")
        assert status == 503
        assert json.loads(said)["reasons"] == ["the spool is full: new calls are not recorded"]


# ── what they share ───────────────────────────────────────────────────────────────────────────────────


class slow_upstream:  # noqa: N801 - used like a function
    """Begins a stream, and ends it when told."""

    def __init__(self) -> None:
        self._go_on = threading.Event()
        self._thread = upstream_thread(self._script)

    def __enter__(self) -> tuple[int, threading.Event]:
        return self._thread.__enter__(), self._go_on

    def __exit__(self, *_: object) -> None:
        self._thread.__exit__(None, None, None)

    async def _script(self, peer: Peer) -> None:
        while True:
            await peer.read_request()
            head, first, *rest = stream_answer()
            await peer.send(head, first)
            while not self._go_on.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.01)
            await peer.send(*rest)


def begin_stream(port: int) -> Stream:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("POST", "/openai/v1/chat/completions", CHAT)
    answer = connection.getresponse()
    assert answer.read(6) == b"data: "
    return connection, answer


def end_stream(stream: Stream) -> None:
    connection, answer = stream
    with contextlib.closing(connection), answer:
        assert answer.read().endswith(b"data: [DONE]\n\n")


def is_refused(port: int) -> bool:
    """Nobody listens. What was in the queue as it closed may be reset."""
    try:
        socket.create_connection(("127.0.0.1", port), WAIT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def reload(sidecar: Sidecar, happening: str) -> dict[str, str]:
    sidecar.process.send_signal(signal.SIGHUP)
    return sidecar.wait_for(happening)


def stop(sidecar: Sidecar) -> None:
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.end() == 0


def counted(admin_port: int) -> int:
    lines = fetch(admin_port, "/metrics")[1].splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith("metering_calls_total"))


def rows(folder: Path) -> list[UsageEvent]:
    paths = sorted((folder / "state" / "spool").glob("worker-*/*.seg"))
    lines = [line.split(b" ", 3) for path in paths for line in path.read_bytes().splitlines()]
    return [msgspec.json.decode(line[3], type=UsageEvent) for line in lines if line[2] == b"F"]


def teams(folder: Path) -> dict[str | None, int]:
    found = [row.attribution.team for row in rows(folder)]
    return {team: found.count(team) for team in found}


def outcomes(folder: Path) -> list[Outcome]:
    return [row.outcome for row in rows(folder)]
