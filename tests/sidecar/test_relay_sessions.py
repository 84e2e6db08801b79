"""Realtime sessions through the relay: real clients hear what they hear without it, and rows say what was used."""

import asyncio
import errno
import json
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
from google.genai import Client
from google.genai.types import Content, Part
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_now

from metering.core.event import Outcome, UsageEvent
from metering.core.usage import UsageSource
from metering.sidecar.spool.disk import DISK
from tests.sidecar.programs import WAIT_SECONDS, running
from tests.sidecar.programs import until as until_now
from tests.sidecar.realtime_server import GEMINI_PATH, SOUND_BYTES, RealtimeServer, realtime_server
from tests.sidecar.rig import Peer, Rig, get, read_records, relaying, run, serve, until
from tests.sidecar.test_relay_tls import server_context

CREATE = json.dumps({"type": "response.create"})
WHISPERING = json.dumps(
    {"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}}
)
COMMIT = json.dumps({"type": "input_audio_buffer.commit"})
SETUP = json.dumps({"setup": {"model": "models/gemini-live-2.5-flash"}})
SAID = json.dumps({"client_content": {"turn_complete": True}})
SILENT = serve()


def asking(words: str) -> str:
    return json.dumps({"type": "response.create", "response": {"instructions": words}})


def routes(server: RealtimeServer) -> str:
    """Routes beside the rig's own, for providers with other names."""
    return "".join(
        f'[[route]]\npath = "/{name}"\nupstream = "http://127.0.0.1:{server.port}"\nprovider = "{name}"\n'
        for name in ("xai", "azure", "google")
    )


async def converse(url: str, questions: list[str], compression: str | None = "deflate") -> list[str | bytes]:
    """Ask one after the other; everything that was heard, to the end of the last turn."""
    heard: list[str | bytes] = []
    async with connect(url, compression=compression, max_size=None) as client:
        for question in questions:
            await client.send(question)
            if question != WHISPERING:
                heard += await hear_turn(client)
    return heard


async def hear_turn(client: ClientConnection) -> list[str | bytes]:
    """Messages up to one that ends something."""
    heard: list[str | bytes] = []
    while True:
        heard.append(await client.recv())
        text = heard[-1] if isinstance(heard[-1], str) else heard[-1].decode()
        if any(word in text for word in ("response.done", "usageMetadata", "setupComplete", "transcription.completed")):
            return heard


async def hear_rest(client: ClientConnection) -> None:
    """To the connection's end, whatever it is."""
    with suppress(ConnectionClosed):
        async for _ in client:
            pass


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize(
    ("path", "questions", "dialect", "asked", "answered"),
    [
        ("openai/v1/realtime?model=gpt-realtime", [CREATE] * 3, "openai.realtime_ws", "gpt-realtime", "gpt-realtime"),
        ("azure/openai/realtime?deployment=ours", [CREATE] * 3, "openai.realtime_ws", "ours", "gpt-realtime"),
        ("azure/voice-live/realtime?model=m", [CREATE] * 3, "azure.voice_live_ws", "m", "gpt-realtime"),
        ("xai/v1/realtime?model=grok-voice", [CREATE] * 3, "xai.realtime_ws", "grok-voice", "grok-voice"),
        (f"google/{GEMINI_PATH}?key=k", [SETUP, *[SAID] * 3], "gemini.live_ws", "gemini-live-2.5-flash", None),
    ],
)
def test_a_session_is_the_same_and_counted(
    tmp_path: Path, compression: str | None, path: str, questions: list[str], dialect: str, asked: str,
    answered: str | None,
) -> None:  # fmt: skip
    async def test() -> None:
        async with realtime_server(compression) as server:
            direct = await converse(f"ws://127.0.0.1:{server.port}/{path.partition('/')[2]}", questions, compression)
            async with relaying(tmp_path, SILENT, config=routes(server), port=server.port) as rig:
                relayed = await converse(f"ws://127.0.0.1:{rig.port}/{path}", questions, compression)
                event = await rig.final()
                assert relayed == direct
                assert server.paths[0] == server.paths[1]
                assert (event.dialect, event.request_model, event.response_model) == (dialect, asked, answered)
                assert (event.outcome, event.usage_source) == (Outcome.COMPLETED, UsageSource.REPORTED)
                assert event.usage is not None
                assert (event.usage.input_tokens, event.usage.output_tokens) == (60, 6)
                assert (event.status, event.streamed, event.part_of) == (101, True, None)
                assert (event.request_bytes > 0, event.response_bytes > 0) == (True, True)

    run(test())


def test_a_session_of_another_protocol_is_a_tunnel_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            await converse(f"ws://127.0.0.1:{rig.port}/openai/v1/chatter", [CREATE])
            event = await rig.final()
            assert (event.dialect, event.usage_source, event.usage) == ("unknown", UsageSource.UNKNOWN, None)

    run(test())


def test_what_writes_the_speech_down_has_a_row_of_its_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            await converse(f"ws://127.0.0.1:{rig.port}/openai/v1/realtime", [WHISPERING, CREATE, COMMIT, CREATE])
            await until(lambda: len(rig.records()) == 2)
            part, call = rig.records()
            assert (call.part_of, part.part_of) == (None, call.event_id)
            assert part.started_at == call.started_at
            assert (call.response_model, part.response_model) == ("gpt-realtime", "gpt-4o-transcribe")
            assert call.usage is not None
            assert part.usage is not None
            assert (call.usage.input_tokens, part.usage.input_tokens, part.usage.output_tokens) == (30, 12, 5)
            assert (part.request_bytes, part.response_bytes) == (0, 0)
            counts = {count.kind.model: count for count in rig.relay.count().call_counts}
            assert (counts["gpt-4o-transcribe"].calls, counts["gpt-4o-transcribe"].input_tokens[-1]) == (0, 12)
            assert sum(count.calls for count in counts.values()) == 1

    run(test())


def test_pings_and_closes_pass(tmp_path: Path) -> None:
    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            url = f"ws://127.0.0.1:{rig.port}/openai/v1/realtime"
            async with connect(url) as client:
                await (await client.ping(b"are you there"))
                await (await server.connections[0].ping(b"and you"))
                await client.send(CREATE)
                await hear_turn(client)
                await client.close(1000, "enough")
            await until(lambda: server.closes)
            assert server.closes == [(1000, "enough")]
            async with connect(url) as client:
                await client.send(asking("bye"))
                await hear_rest(client)
                assert (client.close_code, client.close_reason) == (4001, "session expired")
            await rig.final(2)
            assert [event.outcome for event in rig.records()] == [Outcome.COMPLETED, Outcome.FAILED]

    run(test())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_long_messages(tmp_path: Path, compression: str | None) -> None:
    append = json.dumps({"type": "input_audio_buffer.append", "audio": "x" * SOUND_BYTES})

    async def test() -> None:
        async with realtime_server(compression) as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            async with connect(
                f"ws://127.0.0.1:{rig.port}/openai/v1/realtime", compression=compression, max_size=None
            ) as client:
                await client.send(append)
                await client.send(asking("sound"))
                heard = await hear_turn(client)
                assert max(map(len, heard)) > SOUND_BYTES
            event = await rig.final()
            assert event.usage is not None
            assert (event.usage.input_tokens, event.usage_source) == (10, UsageSource.REPORTED)

    run(test())


def test_a_client_that_vanishes_in_a_turn(tmp_path: Path) -> None:
    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            client = await connect(f"ws://127.0.0.1:{rig.port}/openai/v1/realtime").__aenter__()
            await client.send(CREATE)
            await hear_turn(client)
            await client.send(asking("stall"))
            await server.stalled.wait()
            await client.recv()
            client.transport.abort()
            event = await rig.final()
            assert event.usage is not None
            assert (event.outcome, event.usage_source) == (Outcome.ABORTED, UsageSource.PARTIAL)
            assert event.usage.input_tokens == 10

    run(test())


def test_a_server_that_breaks_off_in_a_turn(tmp_path: Path) -> None:
    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            async with connect(f"ws://127.0.0.1:{rig.port}/openai/v1/realtime") as client:
                await client.send(asking("stall"))
                await server.stalled.wait()
                server.connections[0].transport.abort()
                await hear_rest(client)
            event = await rig.final()
            assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.UNKNOWN)

    run(test())


def test_a_refused_session_takes_nothing(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}")

    async def test() -> None:
        async with relaying(tmp_path, script) as rig:
            client = await rig.connect()
            await client.send(get("/openai/v1/realtime?model=m", "Connection: Upgrade", "Upgrade: websocket"))
            assert (await client.read_answer())[1] == b"{}"
            event = await rig.final()
            assert (event.status, event.outcome, event.usage_source) == (401, Outcome.FAILED, UsageSource.NONE)
            assert event.dialect == "openai.realtime_ws"

    run(test())


def test_on_a_full_disk_no_row_is_lost(tmp_path: Path) -> None:
    full = [False]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "no space")
        return os.write(fd, data)

    async def test() -> None:
        disk = msgspec.structs.replace(DISK, write=write)
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port, disk=disk) as rig:
            async with connect(f"ws://127.0.0.1:{rig.port}/openai/v1/realtime") as client:
                await client.send(WHISPERING)
                await client.send(CREATE)
                await hear_turn(client)
                full[0] = True
                await client.send(COMMIT)
                await hear_turn(client)
            await until(lambda: rig.relay.tally.late_finals == 2)
            assert rig.records() == []
            full[0] = False
            await until(lambda: len(rig.records()) == 2)
            part, call = rig.records()
            assert (call.part_of, part.part_of) == (None, call.event_id)
            assert rig.relay.tally.unmetered_calls == 0

    run(test())


def opens(rig: Rig) -> list[UsageEvent]:
    return rig.records("O")


def test_what_was_used_so_far_is_written_down_but_not_each_time(tmp_path: Path) -> None:
    turns = 200

    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            began = monotonic()
            async with connect(f"ws://127.0.0.1:{rig.port}/openai/v1/realtime") as client:
                for _ in range(turns):
                    await client.send(CREATE)
                    await hear_turn(client)
                written = len(opens(rig)) - 1
                assert 1 <= written <= 2 + monotonic() - began
                total = 10 * turns * (turns + 1) // 2
                await until(lambda: (usage := opens(rig)[-1].usage) is not None and usage.input_tokens == total)
                last = opens(rig)[-1]
                assert (last.outcome, last.usage_source) == (Outcome.INTERRUPTED, UsageSource.PARTIAL)
            await rig.final()

    run(test())


@contextmanager
def server_thread() -> Iterator[int]:
    """The server in a thread of its own; its port."""
    loop, started, stop, ports = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), list[int]()

    async def serve_until_stopped() -> None:
        async with realtime_server() as server:
            ports.append(server.port)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve_until_stopped(),))
    thread.start()
    assert started.wait(WAIT_SECONDS)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_a_killed_worker_leaves_what_was_used_so_far(tmp_path: Path) -> None:
    spool_dir = tmp_path / "state" / "spool" / "worker-0"
    with server_thread() as upstream_port, running(tmp_path, upstream_port, "workers = 1") as (sidecar, port, _):
        with connect_now(f"ws://127.0.0.1:{port}/openai/v1/realtime", max_size=None) as client:
            for question in (WHISPERING, CREATE, COMMIT, CREATE, asking("stall")):
                client.send(question)
            until_now(lambda: any(event.part_of for event in read_records(spool_dir, "O")))
            until_now(lambda: _used(read_records(spool_dir, "O")) == 30)
            [worker] = sidecar.workers()
            os.kill(worker, signal.SIGKILL)
            with suppress(ConnectionClosed):
                for _ in client:
                    pass
        sidecar.wait_for("worker_listening")
        until_now(lambda: len(read_records(spool_dir)) == 2)
    call, part = sorted(read_records(spool_dir), key=lambda event: event.part_of is not None)
    assert {event.outcome for event in (call, part)} == {Outcome.INTERRUPTED}
    assert {event.usage_source for event in (call, part)} == {UsageSource.PARTIAL}
    assert (_used([call]), _used([part])) == (30, 12)
    assert (call.part_of, part.part_of, part.response_model) == (None, call.event_id, "gpt-4o-transcribe")


def _used(events: list[UsageEvent]) -> int:
    """Input tokens of the last record that tells any for the call itself, or for a part if there is no other."""
    calls = [event for event in events if event.part_of is None] or events
    usage = calls[-1].usage
    return usage.input_tokens or 0 if usage is not None else 0


def test_the_sdk_of_openai(tmp_path: Path) -> None:
    async def ask(port: int, path: str) -> list[Any]:
        heard = []
        async with (
            AsyncOpenAI(api_key="sk-x", base_url=f"http://127.0.0.1:{port}{path}/v1") as client,
            client.realtime.connect(model="gpt-realtime") as session,
        ):
            await session.response.create()
            async for event in session:
                heard.append(event.model_dump())
                if event.type == "response.done":
                    return heard
        return heard

    async def test() -> None:
        async with realtime_server() as server, relaying(tmp_path, SILENT, port=server.port) as rig:
            direct = await ask(server.port, "")
            assert await ask(rig.port, "/openai") == direct
            event = await rig.final()
            assert (event.request_model, event.usage is not None and event.usage.input_tokens) == ("gpt-realtime", 10)

    run(test())


def test_the_sdk_of_google(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """It insists on TLS, so the relay listens with it here."""
    trust = {"ssl": ssl.create_default_context(cafile=certificate[0])}

    async def ask(port: int, path: str) -> list[Any]:
        options: Any = {"base_url": f"https://localhost:{port}{path}", "async_client_args": trust}
        client = Client(api_key="key", http_options=options)
        async with client.aio.live.connect(model="gemini-live-2.5-flash") as session:
            await session.send_client_content(turns=Content(parts=[Part(text="Hi.")]))
            return [message.model_dump() async for message in session.receive()]

    async def test() -> None:
        tls = server_context(certificate)
        async with realtime_server(tls=tls) as safe, realtime_server() as server:
            direct = await ask(safe.port, "")
            assert direct
            async with relaying(tmp_path, SILENT, config=routes(server), port=server.port) as rig:
                listener = await asyncio.get_running_loop().create_server(rig.relay.accept, "127.0.0.1", 0, ssl=tls)
                assert await ask(listener.sockets[0].getsockname()[1], "/google") == direct
                listener.close()
                event = await rig.final()
                assert event.usage is not None
                assert (event.request_model, event.usage.input_tokens) == ("gemini-live-2.5-flash", 10)
                assert safe.paths == server.paths

    run(test())
