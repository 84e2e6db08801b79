"""A hand-made realtime server on the real `websockets` library: it answers as the dialects do, a turn a question."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SOUND_BYTES = 2_000_000
SOUND = "UklG" * (SOUND_BYTES // 4)
GEMINI_PATH = "ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


class RealtimeServer:
    """Turn n takes 10 n tokens in and n out. What a client asks in words: `sound`, `stall`, `bye`."""

    def __init__(self) -> None:
        self.port = 0
        self.paths: list[str] = []
        self.closes: list[tuple[int | None, str | None]] = []  # code and reason, as this side saw them
        self.stalled = asyncio.Event()
        self.connections: list[ServerConnection] = []

    async def talk(self, connection: ServerConnection) -> None:
        """One session."""
        assert connection.request is not None
        path = connection.request.path
        self.paths.append(path)
        self.connections.append(connection)
        speak = self._speak_gemini if "BidiGenerateContent" in path else self._speak_openai
        with contextlib.suppress(ConnectionClosed):
            await speak(connection, xai="grok" in path)
        await connection.wait_closed()
        self.closes.append((connection.close_code, connection.close_reason))

    async def _speak_openai(self, connection: ServerConnection, *, xai: bool) -> None:
        session = {"type": "realtime", "id": "sess_1", "model": "grok-voice" if xai else "gpt-realtime"}
        await _say(connection, type="session.created", session=session)
        turn = 0
        async for text in connection:
            asked = json.loads(text)
            if asked["type"] == "session.update":
                session |= asked["session"]
                await _say(connection, type="session.updated", session=session)
            elif asked["type"] == "input_audio_buffer.commit":
                await _say(connection, **_transcribed(turn))
            elif asked["type"] == "response.create":
                turn += 1
                await self._turn(connection, turn, str(asked.get("response", {}).get("instructions")), xai=xai)

    async def _turn(self, connection: ServerConnection, turn: int, asked: str, *, xai: bool) -> None:
        name = f"resp_{turn}"
        await _say(connection, type="response.created", response={"id": name, "usage": None})
        await _say(connection, type="response.output_audio.delta", delta=SOUND if asked == "sound" else "UklG")
        if asked == "stall":
            self.stalled.set()
            return
        usage = _usage(turn)
        told: dict[str, Any] = {"response": {"id": name, "status": "completed", "usage": {} if xai else usage}}
        if xai:
            told |= {"response_id": name, "usage": usage | {"billable_audio_seconds": 2}}
        await _say(connection, type="response.done", event_id=f"event_{turn}", **told)
        if asked == "bye":
            await connection.close(4001, "session expired")

    async def _speak_gemini(self, connection: ServerConnection, *, xai: bool) -> None:
        del xai
        turn = 0
        async for text in connection:
            asked = json.loads(text)
            if "setup" in asked:
                await connection.send(json.dumps({"setupComplete": {}}).encode())
            else:
                turn += 1
                sound = {"inlineData": {"mimeType": "audio/pcm", "data": "UklG"}}
                content: dict[str, Any] = {"serverContent": {"modelTurn": {"parts": [sound]}}}
                await connection.send(json.dumps(content).encode())
                counts = {"promptTokenCount": 10 * turn, "responseTokenCount": turn, "totalTokenCount": 11 * turn}
                content = {"serverContent": {"turnComplete": True}, "usageMetadata": counts}
                await connection.send(json.dumps(content).encode())


def _usage(turn: int) -> dict[str, Any]:
    return {
        "input_tokens": 10 * turn,
        "output_tokens": turn,
        "total_tokens": 11 * turn,
        "input_token_details": {"text_tokens": 10 * turn, "audio_tokens": 0, "cached_tokens": 4},
        "output_token_details": {"text_tokens": 0, "audio_tokens": turn},
    }


def _transcribed(turn: int) -> dict[str, Any]:
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "item_id": f"item_{turn}",
        "content_index": 0,
        "transcript": "Hello.",
        "usage": {"type": "tokens", "input_tokens": 12, "output_tokens": 5, "total_tokens": 17},
    }


async def _say(connection: ServerConnection, **message: Any) -> None:
    await connection.send(json.dumps(message))


@contextlib.asynccontextmanager
async def realtime_server(
    compression: str | None = "deflate", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RealtimeServer]:
    """A server that listens."""
    talker = RealtimeServer()
    async with serve(talker.talk, "127.0.0.1", 0, compression=compression, max_size=None, ssl=tls) as server:
        talker.port = next(iter(server.sockets)).getsockname()[1]
        yield talker
