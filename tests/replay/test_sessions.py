"""Every recorded realtime session, played by a real server and a real client through the relay."""

import functools
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from metering.core.dialects import SESSIONS, Reading
from metering.core.event import UsageEvent
from metering.jobs.check_dialects import Recording
from metering.jobs.compare_usage import compare
from metering.jobs.reframe import Message, read_messages
from tests.replay.recorded import OURS, SHARED
from tests.sidecar.rig import Rig, relaying, run, serve, until

PATHS = {
    "openai.realtime_ws": "v1/realtime",
    "azure.voice_live_ws": "voice-live/realtime",
    "xai.realtime_ws": "v1/realtime",
    "gemini.live_ws": "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
}
CLIENT, SERVER = "sent", "received"


async def play(connection: ClientConnection | ServerConnection, messages: list[Message], side: str) -> list[bytes]:
    """Say one side's messages in their order, and hear the other's; what was heard."""
    heard: list[bytes] = []
    for message in messages:
        if message.direction == side:
            await connection.send(message.text.decode())
        else:
            heard.append(await connection.recv(decode=False))
    return heard


@pytest.mark.parametrize("folder", [OURS, SHARED], ids=["ours", "shared"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_session_is_the_same_and_its_row_is_right(tmp_path: Path, folder: Path, compression: str | None) -> None:
    stored = {
        str(path.relative_to(folder)): msgspec.json.decode(path.read_bytes(), type=Recording)
        for path in sorted(folder.rglob("*.json"))
        if b'_ws"' in path.read_bytes()
    }
    if not stored:
        pytest.skip(f"no recorded sessions in {folder}")
    sessions = [recording for recording in stored.values() if recording.dialect in SESSIONS]
    assert len(sessions) >= 25

    async def answer(connection: ServerConnection) -> None:
        assert connection.request is not None
        number = int(connection.request.path.split("/")[1])
        await play(connection, read_messages(sessions[number].body), SERVER)
        await connection.wait_closed()

    async def test() -> None:
        async with serve_websocket(answer, "127.0.0.1", 0, compression=compression, max_size=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            routes = "".join(
                f'[[route]]\npath = "/{name}"\nupstream = "http://127.0.0.1:{port}"\nprovider = "{name}"\n'
                for name in {session.provider for session in sessions} - {"openai"}
            )
            async with relaying(tmp_path, serve(), config=routes, port=port) as rig:
                for number, session in enumerate(sessions):
                    messages = read_messages(session.body)
                    url = f"ws://127.0.0.1:{rig.port}/{session.provider}/{number}/{PATHS[session.dialect]}"
                    async with connect(url, compression=compression, max_size=None) as client:
                        heard = await play(client, messages, CLIENT)
                    assert heard == [message.text for message in messages if message.direction == SERVER]
                    await until(functools.partial(has_rows, rig, number + 1))
                for session, event in zip(sessions, calls(rig.records()), strict=True):
                    assert event.dialect == session.dialect
                    assert compare(session.expected_usage, Reading(usage=event.usage, raw_usage=event.raw_usage)) == []

    run(test(), seconds=60)


def has_rows(rig: Rig, count: int) -> bool:
    return len(calls(rig.records())) == count


def calls(events: list[UsageEvent]) -> list[UsageEvent]:
    """Those that are no parts of others."""
    return [event for event in events if event.part_of is None]
