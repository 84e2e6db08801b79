"""The emulator's Ollama voice: chat, generate and embed, whole and as NDJSON streams.

A request that doesn't say streams, as with the real one. Shapes: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

from metering.lab.answer_openai import VECTOR
from metering.lab.ask import Ask
from metering.lab.words import pieces, text

CREATED = b"2026-01-01T00:00:00Z"
ERROR_LINE = b'{"error":"an error was encountered while running the model"}\n'
TAGS = (
    b'{"models":[{"name":"emulated","model":"emulated","modified_at":"%b","size":1,"digest":"0","details":{}}]}'
    % CREATED
)


def error(message: bytes, _status: int) -> bytes:
    """An error body; `message` is a JSON string; Ollama's says nothing else, whatever the status."""
    return b'{"error":%b}' % message


def _counts(ask: Ask) -> bytes:
    """The final object's members: durations in ns, and the counts unless the fault hides them."""
    durations = b',"total_duration":50000000,"load_duration":1000000'
    if not ask.tells_usage:
        return durations
    cached = b',"prompt_eval_cached_count":%d' % ask.cached_tokens if ask.cached_tokens else b""
    counts = b',"prompt_eval_count":%d,"prompt_eval_duration":9000000,"eval_count":%d,"eval_duration":40000000'
    return durations + counts % (ask.input_tokens, ask.output_tokens) + cached


def _line(ask: Ask, member: bytes, done: bytes) -> bytes:
    return b'{"model":%b,"created_at":"%b",%b,"done":%b}' % (ask.model, CREATED, member, done)


def _chat_member(content: bytes) -> bytes:
    return b'"message":{"role":"assistant","content":"%b"}' % content


def _generate_member(content: bytes) -> bytes:
    return b'"response":"%b"' % content


def _final(ask: Ask, member: bytes) -> bytes:
    return _line(ask, member, b'true,"done_reason":"stop"' + _counts(ask))


def chat(ask: Ask) -> bytes:
    """A whole `/api/chat` answer."""
    return _final(ask, _chat_member(text(ask.words)))


def generate(ask: Ask) -> bytes:
    """A whole `/api/generate` answer."""
    return _final(ask, _generate_member(text(ask.words)))


def chat_lines(ask: Ask) -> list[bytes]:
    """One line a piece, then the final object with the counts."""
    lines = [_line(ask, _chat_member(piece), b"false") + b"\n" for piece in pieces(ask.words, ask.chunks)]
    return [*lines, _final(ask, _chat_member(b"")) + b"\n"]


def generate_lines(ask: Ask) -> list[bytes]:
    """One line a piece, then the final object with the counts."""
    lines = [_line(ask, _generate_member(piece), b"false") + b"\n" for piece in pieces(ask.words, ask.chunks)]
    return [*lines, _final(ask, _generate_member(b"")) + b"\n"]


def embed(ask: Ask) -> bytes:
    """An `/api/embed` answer."""
    vectors = b",".join([b"[" + ",".join(map(str, VECTOR)).encode() + b"]"] * ask.vectors)
    counted = b',"prompt_eval_count":%d' % ask.input_tokens if ask.tells_usage else b""
    return b'{"model":%b,"embeddings":[%b],"total_duration":9000000,"load_duration":1000000%b}' % (
        ask.model,
        vectors,
        counted,
    )
