"""A `Call` as the bytes of an HTTP/1.1 request, in its dialect, with the headers that attribute and shape it."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from metering.errors import ConfigError
from metering.lab.calls import Call

# dialect -> (the sidecar's route, the native path, the body apart from model and stream)
PATHS: dict[str, tuple[str, str, dict[str, object]]] = {
    "openai.chat": ("/openai", "/v1/chat/completions", {"messages": [{"role": "user", "content": "replayed"}]}),
    "openai.completions": ("/openai", "/v1/completions", {"prompt": "replayed"}),
    "openai.embeddings": ("/openai", "/v1/embeddings", {"input": "replayed"}),
    "openai.responses": ("/openai", "/v1/responses", {"input": "replayed"}),
    "anthropic.messages": (
        "/anthropic",
        "/v1/messages",
        {"max_tokens": 8192, "messages": [{"role": "user", "content": "replayed"}]},
    ),
    "ollama.chat": ("/ollama", "/api/chat", {"messages": [{"role": "user", "content": "replayed"}]}),
    "ollama.generate": ("/ollama", "/api/generate", {"prompt": "replayed"}),
    "ollama.embed": ("/ollama", "/api/embed", {"input": "replayed"}),
}
EMBEDDINGS = ("openai.embeddings", "ollama.embed")
ASKS_FOR_USAGE = ("openai.chat", "openai.completions")  # the streams that tell usage only if asked


class Target(msgspec.Struct, frozen=True):
    """Where calls go."""

    host: str
    port: int
    prefix: str = ""
    direct: bool = False  # straight to an emulator, which has no routes


def read_target(url: str, *, direct: bool) -> Target:
    """Read `http://host:port[/prefix]`. `ConfigError` for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.query:
        raise ConfigError(f"--through {url!r} must look like http://127.0.0.1:8787: the sidecar's own address")
    return Target(parts.hostname, parts.port or 80, parts.path.rstrip("/"), direct)


class RequestWriter:
    """Renders calls. What is the same for all calls of a kind is rendered once.

    A team with a key in `keys` sends it as `x-metering-key`; any other says who it is in `x-team` and
    `x-project`, which a sidecar believes only on routes that trust them; the team "" says nothing.
    """

    def __init__(self, target: Target, keys: Mapping[str, str], *, chunks: int) -> None:
        self._target = target
        self._keys = keys
        self._chunks = chunks
        self._templates: dict[tuple[str, str, bool, bool], tuple[bytes, bytes]] = {}
        self._identities: dict[tuple[str, str], bytes] = {}

    def render(self, call: Call, call_id: str) -> bytes:
        """The whole request. `call_id` (32 hex digits) travels as trace id, so that a row can be joined to its call."""
        kind = (call.dialect, call.model, call.streamed, call.include_usage)
        template = self._templates.get(kind) or self._templates.setdefault(kind, self._template(call))
        who = (call.team, call.project)
        identity = self._identities.get(who)
        if identity is None:
            identity = self._identities.setdefault(who, self._identity(call))
        identifier = call_id.encode()
        return b"%b%btraceparent: 00-%b-%b-01\r\n%b: %b\r\n%b: %d\r\n%b: %d\r\n%b%b" % (
            template[0],
            identity,
            identifier,
            identifier[16:],
            b"x-emulate-call-id",
            identifier,
            b"x-emulate-input-tokens",
            call.input_tokens,
            b"x-emulate-output-tokens",
            call.output_tokens,
            _optional(call),
            template[1],
        )

    def _template(self, call: Call) -> tuple[bytes, bytes]:
        try:
            route, path, fields = PATHS[call.dialect]
        except KeyError:
            raise ConfigError(
                f"a call in dialect {call.dialect!r} can't be sent: known are {', '.join(PATHS)}"
            ) from None
        body: dict[str, object] = {"model": call.model, **fields}
        if call.dialect not in EMBEDDINGS:
            body["stream"] = call.streamed
        if call.streamed and call.include_usage and call.dialect in ASKS_FOR_USAGE:
            body["stream_options"] = {"include_usage": True}
        encoded = msgspec.json.encode(body)
        target = self._target.prefix + ("" if self._target.direct else route) + path
        head = (
            f"POST {target} HTTP/1.1\r\nhost: {self._target.host}:{self._target.port}\r\n"
            f"content-type: application/json\r\nuser-agent: metering-replay\r\nx-emulate-chunks: {self._chunks}\r\n"
        )
        return head.encode(), b"content-length: %d\r\n\r\n%b" % (len(encoded), encoded)

    def _identity(self, call: Call) -> bytes:
        if key := self._keys.get(call.team):
            return f"x-metering-key: {key}\r\n".encode()
        if not call.team:
            return b""
        return f"x-team: {call.team}\r\nx-project: {call.project}\r\n".encode()


def _optional(call: Call) -> bytes:
    lines = b""
    if call.cached_tokens:
        lines += b"x-emulate-cached-tokens: %d\r\n" % call.cached_tokens
    if call.fault:
        lines += b"x-emulate-fault: %b\r\n" % call.fault.encode()
    if call.leaves_early:  # something must be left to be sent when the client hangs up
        lines += b"x-emulate-pace-ms: 20\r\n"
    return lines
