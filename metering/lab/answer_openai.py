"""The emulator's OpenAI voice: chat, completions, embeddings, responses; whole and streamed.

Like the real one, a chat or completions stream tells its usage only when asked with `stream_options.include_usage`,
in a last chunk without choices; a responses stream always does. Shapes: https://platform.openai.com/docs/api-reference.
"""

import base64
import struct

from metering.lab.ask import Ask
from metering.lab.words import pieces, text

CREATED = 1_700_000_000  # a constant: the same request gets the same answer, to the byte
VECTOR = tuple(round(0.125 * (i - 4), 3) for i in range(8))
DONE = b"data: [DONE]\n\n"
ERROR_EVENT = (
    b'data: {"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}\n\n'
)


def error(message: bytes, status: int) -> bytes:
    """An error body; `message` is a JSON string."""
    kind = b"invalid_request_error" if status < 500 else b"server_error"
    return b'{"error":{"message":%b,"type":"%b","param":null,"code":null}}' % (message, kind)


def _usage(ask: Ask) -> bytes:
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},'
        b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
        b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}'
    ) % (ask.input_tokens, ask.output_tokens, ask.input_tokens + ask.output_tokens, ask.cached_tokens)


def _usage_member(ask: Ask, usage: bytes) -> bytes:
    return b',"usage":' + usage if ask.tells_usage else b""


def chat(ask: Ask) -> bytes:
    """A `chat.completion` object."""
    return (
        b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"%b","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}]'
        b'%b,"service_tier":"default","system_fingerprint":"fp_emulated"}'
    ) % (ask.call_id.encode(), CREATED, ask.model, text(ask.words), _usage_member(ask, _usage(ask)))


def chat_events(ask: Ask) -> list[bytes]:
    """`chat.completion.chunk` events: role, one a piece, finish, usage if asked for, `[DONE]`."""
    prefix = (
        b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":%d,"model":%b,'
        b'"service_tier":"default","system_fingerprint":"fp_emulated","choices":['
    ) % (ask.call_id.encode(), CREATED, ask.model)
    null = b',"usage":null}\n\n' if ask.include_usage and ask.tells_usage else b"}\n\n"
    opened = prefix + b'{"index":0,"delta":'
    going = b',"logprobs":null,"finish_reason":null}]' + null
    events = [opened + b'{"role":"assistant","content":"","refusal":null}' + going]
    events += [opened + b'{"content":"' + piece + b'"}' + going for piece in pieces(ask.words, ask.chunks)]
    events.append(opened + b'{},"logprobs":null,"finish_reason":"stop"}]' + null)
    return events + _stream_end(ask, prefix)


def _stream_end(ask: Ask, prefix: bytes) -> list[bytes]:
    if ask.include_usage and ask.tells_usage:
        return [prefix + b'],"usage":' + _usage(ask) + b"}\n\n", DONE]
    return [DONE]


def completion(ask: Ask) -> bytes:
    """A `text_completion` object."""
    return (
        b'{"id":"cmpl-%b","object":"text_completion","created":%d,"model":%b,'
        b'"choices":[{"text":"%b","index":0,"logprobs":null,"finish_reason":"stop"}]%b}'
    ) % (ask.call_id.encode(), CREATED, ask.model, text(ask.words), _usage_member(ask, _usage(ask)))


def completion_events(ask: Ask) -> list[bytes]:
    """`text_completion` events: one a piece, finish, usage if asked for, `[DONE]`."""
    prefix = b'data: {"id":"cmpl-%b","object":"text_completion","created":%d,"model":%b,"choices":[' % (
        ask.call_id.encode(),
        CREATED,
        ask.model,
    )
    null = b',"usage":null}\n\n' if ask.include_usage and ask.tells_usage else b"}\n\n"
    going = b'","index":0,"logprobs":null,"finish_reason":null}]' + null
    events = [prefix + b'{"text":"' + piece + going for piece in pieces(ask.words, ask.chunks)]
    events.append(prefix + b'{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]' + null)
    return events + _stream_end(ask, prefix)


def embeddings(ask: Ask) -> bytes:
    """A `list` of embeddings; usage has no output side, as with the real one."""
    vector = b"[" + ",".join(map(str, VECTOR)).encode() + b"]"
    if ask.base64_vectors:
        vector = b'"' + base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)) + b'"'
    rows = b",".join(b'{"object":"embedding","index":%d,"embedding":%b}' % (i, vector) for i in range(ask.vectors))
    usage = _usage_member(ask, b'{"prompt_tokens":%d,"total_tokens":%d}' % (ask.input_tokens, ask.input_tokens))
    return b'{"object":"list","data":[%b],"model":%b%b}' % (rows, ask.model, usage)


def _response(ask: Ask, status: bytes, output: bytes, usage: bytes) -> bytes:
    return (
        b'{"id":"resp_%b","object":"response","created_at":%d,"status":"%b","background":false,"error":null,'
        b'"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":%b,"output":[%b],'
        b'"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},'
        b'"service_tier":"default","store":false,"temperature":1.0,"text":{"format":{"type":"text"}},'
        b'"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":%b,"user":null,"metadata":{}}'
    ) % (ask.call_id.encode(), CREATED, status, ask.model, output, usage)


def _response_usage(ask: Ask) -> bytes:
    if not ask.tells_usage:
        return b"null"
    return (
        b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d},"output_tokens":%d,'
        b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}'
    ) % (ask.input_tokens, ask.cached_tokens, ask.output_tokens, ask.input_tokens + ask.output_tokens)


def _message(ask: Ask, status: bytes, content: bytes) -> bytes:
    template = b'{"id":"msg_%b","type":"message","status":"%b","role":"assistant","content":[%b]}'
    return template % (ask.call_id.encode(), status, content)


def _part(content: bytes) -> bytes:
    return b'{"type":"output_text","annotations":[],"logprobs":[],"text":"%b"}' % content


def response(ask: Ask) -> bytes:
    """A completed `response` object."""
    return _response(ask, b"completed", _message(ask, b"completed", _part(text(ask.words))), _response_usage(ask))


def response_events(ask: Ask) -> list[bytes]:
    """The typed events of a responses stream; the last one, `response.completed`, carries the usage."""
    started = _response(ask, b"in_progress", b"", b"null")
    content = text(ask.words)
    spot = b'"item_id":"msg_%b","output_index":0,"content_index":0,' % ask.call_id.encode()
    bodies = [
        (b"response.created", b'"response":' + started),
        (b"response.in_progress", b'"response":' + started),
        (b"response.output_item.added", b'"output_index":0,"item":' + _message(ask, b"in_progress", b"")),
        (b"response.content_part.added", spot + b'"part":' + _part(b"")),
        *(
            (b"response.output_text.delta", spot + b'"logprobs":[],"delta":"' + piece + b'"')
            for piece in pieces(ask.words, ask.chunks)
        ),
        (b"response.output_text.done", spot + b'"logprobs":[],"text":"' + content + b'"'),
        (b"response.content_part.done", spot + b'"part":' + _part(content)),
        (b"response.output_item.done", b'"output_index":0,"item":' + _message(ask, b"completed", _part(content))),
        (b"response.completed", b'"response":' + response(ask)),
    ]
    return [
        b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (kind, kind, sequence, body)
        for sequence, (kind, body) in enumerate(bodies)
    ]


MODELS = b'{"object":"list","data":[{"id":"emulated","object":"model","created":%d,"owned_by":"emulator"}]}' % CREATED
RESPONSES_ERROR_EVENT = (
    b'event: error\ndata: {"type":"error","sequence_number":3,"code":"server_error",'
    b'"message":"The server had an error","param":null}\n\n'
)
