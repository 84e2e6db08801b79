"""A local model server's own /tokenize: it counts as the model does, its template and tools included.

vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (Tokenizer API). llama.cpp:
https://github.com/ggml-org/llama.cpp/tree/master/tools/server (POST /tokenize, /apply-template).
"""

import http.client
import ssl
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from metering.core.dialects.scan import parse
from metering.core.texts.families import Family
from metering.errors import EstimateError
from metering.sidecar.route_config import Tokenize, Upstream

ANSWER_SECONDS = 3.0
ANSWER_BYTES_MAX = 8 * 1024**2


class LocalServer:
    """The server behind one route."""

    def __init__(self, upstream: Upstream, kind: Tokenize, ca_file: Path | None) -> None:
        self._upstream = upstream
        self._kind = kind
        self._tls = ssl.create_default_context(cafile=ca_file) if upstream.tls else None

    def counter(self, model: str, family: Family) -> "ServerCounter":
        """What counts for `model`."""
        return ServerCounter(self, self._kind, model, family)

    def ask(self, path: str, question: Any) -> dict[str, Any]:
        """POST a JSON object; `EstimateError` if no JSON object comes back in time."""
        upstream = self._upstream
        kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
        options: dict[str, Any] = {}
        if self._tls is not None:
            kind, options = http.client.HTTPSConnection, {"context": self._tls}
        connection = kind(upstream.host, upstream.port, timeout=ANSWER_SECONDS, **options)
        try:
            connection.request(
                "POST",
                path,
                msgspec.json.encode(question),
                {"Content-Type": "application/json", "Host": upstream.authority},
            )
            answer = connection.getresponse()
            found = parse(answer.read(ANSWER_BYTES_MAX)) if answer.status == 200 else None
        except (OSError, http.client.HTTPException) as error:
            raise EstimateError(f"the model's server does not answer {path}: {type(error).__name__}") from None
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise EstimateError(f"the model's server does not know {path}")
        return found


class ServerCounter:
    """Counts by a server."""

    def __init__(self, server: LocalServer, kind: Tokenize, model: str, family: Family) -> None:
        self.name = f"{kind} /tokenize"
        self.family = replace(family, permille=1000)
        self._server = server
        self._kind = kind
        self._model = model

    def count(self, text: str) -> int:
        """As `Counter.count`."""
        if self._kind == "vllm":
            question = {"model": self._model, "prompt": text, "add_special_tokens": False}
        else:
            question = {"content": text}
        return _length(self._server.ask("/tokenize", question))

    def count_request(self, request: Any) -> int | None:
        """A chat's messages as the model's template lays them out; None for other requests."""
        if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
            return None
        told = {name: request[name] for name in ("messages", "tools") if name in request}
        if self._kind == "vllm":
            return _length(self._server.ask("/tokenize", {"model": self._model, **told}))
        prompt = self._server.ask("/apply-template", told).get("prompt")
        if not isinstance(prompt, str):
            raise EstimateError("the model's server has no template")
        question = {"content": prompt, "add_special": True, "parse_special": True}
        return _length(self._server.ask("/tokenize", question))


def _length(answer: dict[str, Any]) -> int:
    count, tokens = answer.get("count"), answer.get("tokens")
    if isinstance(count, int):
        return count
    if isinstance(tokens, list):
        return len(tokens)
    raise EstimateError("the model's server answers /tokenize in an unknown way")
