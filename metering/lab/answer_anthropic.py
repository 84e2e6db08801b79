"""The emulator's Anthropic voice: messages, whole and streamed, and count_tokens.

`input_tokens` excludes cache reads, as the real one's does; a stream tells the input side in `message_start`
and the cumulative whole in `message_delta`. Shapes: https://docs.anthropic.com/en/api/messages-streaming.
"""

from metering.lab.ask import Ask
from metering.lab.words import pieces, text

ERROR_EVENT = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},'
    b'"request_id":"req_emulated"}\n\n'
)
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BLOCK_START = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
)
BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def error(message: bytes, status: int) -> bytes:
    """An error body; `message` is a JSON string."""
    kind = {404: b"not_found_error", 529: b"overloaded_error"}.get(status)
    kind = kind or (b"invalid_request_error" if status < 500 else b"api_error")
    return b'{"type":"error","error":{"type":"%b","message":%b},"request_id":"req_emulated"}' % (kind, message)


def _input_usage(ask: Ask) -> bytes:
    return (
        b'"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":%d,'
        b'"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}'
    ) % (ask.input_tokens - ask.cached_tokens, ask.cached_tokens)


def _message(ask: Ask, content: bytes, stop_reason: bytes, output_tokens: int) -> bytes:
    usage = b'{%b,"output_tokens":%d,"service_tier":"standard"}' % (_input_usage(ask), output_tokens)
    return (
        b'{"id":"msg_%b","type":"message","role":"assistant","model":%b,"content":[%b],'
        b'"stop_reason":%b,"stop_sequence":null%b}'
    ) % (ask.call_id.encode(), ask.model, content, stop_reason, b',"usage":' + usage if ask.tells_usage else b"")


def message(ask: Ask) -> bytes:
    """A `message` object."""
    return _message(ask, b'{"type":"text","text":"%b"}' % text(ask.words), b'"end_turn"', ask.output_tokens)


def message_events(ask: Ask) -> list[bytes]:
    """The events of a messages stream, from `message_start` to `message_stop`."""
    start = _message(ask, b"", b"null", min(1, ask.output_tokens))
    usage = b',"usage":{%b,"output_tokens":%d}' % (_input_usage(ask), ask.output_tokens) if ask.tells_usage else b""
    delta = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    return [
        b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % start,
        BLOCK_START,
        PING,
        *(delta + b'"text":"' + piece + b'"}}\n\n' for piece in pieces(ask.words, ask.chunks)),
        BLOCK_STOP,
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}'
        b"%b}\n\n" % usage,
        MESSAGE_STOP,
    ]


def token_count(ask: Ask) -> bytes:
    """The answer of count_tokens: a count, nothing consumed."""
    return b'{"input_tokens":%d}' % ask.input_tokens
