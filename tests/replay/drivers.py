"""How the providers' SDKs are made to ask for a recorded exchange: what they make of its answer is what counts.

The upstream gives the recorded answer whatever is asked, so a driver needs no more than the base URL, the model, and
whether to stream. What it returns can be compared: values, or the kind and words of the error that was raised.
"""

import atexit
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import cohere
import httpx
import httpx2
from anthropic import Anthropic
from groq import Groq
from ollama import Client as Ollama
from openai import OpenAI

from tests.replay import cloud_drivers, media_drivers
from tests.replay.recorded import Recorded

Driver = Callable[[str, Recorded, dict[str, str]], Any]
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
MODEL = "asked-for"


def _base(url: str, recorded: Recorded, suffix: str) -> tuple[str, dict[str, str]]:
    """The base URL an SDK needs to ask for the recorded path, and its query."""
    parts = urlsplit(recorded.path)
    assert parts.path.endswith(suffix), f"{recorded.name} is not a {suffix}"
    return url + parts.path.removesuffix(suffix), dict(parse_qsl(parts.query))


def _dump(stream: Iterable[Any]) -> list[Any]:
    return [part.model_dump(warnings=False) for part in stream]


def _openai(url: str, recorded: Recorded, headers: dict[str, str], suffix: str) -> OpenAI:
    base, query = _base(url, recorded, suffix)
    return OpenAI(base_url=base, api_key="sk-client", default_headers=headers, default_query=query,
                  max_retries=0, http_client=HTTP)  # fmt: skip


HTTP = httpx2.Client(timeout=20)
atexit.register(HTTP.close)


def chat(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/chat/completions").chat.completions.create
    if recorded.streamed:
        return _dump(ask(model=MODEL, messages=MESSAGES, stream=True))
    return ask(model=MODEL, messages=MESSAGES).model_dump(warnings=False)


def completions(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/completions").completions.create
    if recorded.streamed:
        return _dump(ask(model=MODEL, prompt="hi", stream=True))
    return ask(model=MODEL, prompt="hi").model_dump(warnings=False)


def embeddings(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/embeddings").embeddings.create
    return ask(model=MODEL, input="hi", encoding_format="float").model_dump(warnings=False)


def responses(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/responses").responses.create
    if recorded.streamed:
        return _dump(ask(model=MODEL, input="hi", stream=True))
    return ask(model=MODEL, input="hi").model_dump(warnings=False)


def messages(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    base, query = _base(url, recorded, "/v1/messages")
    client = Anthropic(base_url=base, api_key="sk-client", default_headers=headers, default_query=query,
                       max_retries=0, http_client=HTTP)  # fmt: skip
    if recorded.streamed:
        return _dump(client.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES, stream=True))
    return client.messages.create(model=MODEL, max_tokens=9, messages=MESSAGES).model_dump(warnings=False)


def ollama_chat(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    base, _ = _base(url, recorded, "/api/chat")
    with Ollama(host=base, headers=headers) as client:
        if recorded.streamed:
            return [part.model_dump() for part in client.chat(MODEL, MESSAGES, stream=True)]
        return client.chat(MODEL, MESSAGES).model_dump()


def ollama_generate(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    base, _ = _base(url, recorded, "/api/generate")
    with Ollama(host=base, headers=headers) as client:
        if recorded.streamed:
            return [part.model_dump() for part in client.generate(MODEL, "hi", stream=True)]
        return client.generate(MODEL, "hi").model_dump()


def ollama_embed(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    base, _ = _base(url, recorded, "/api/embed")
    with Ollama(host=base, headers=headers) as client:
        return client.embed(MODEL, "hi").model_dump()


def groq_chat(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    base, _ = _base(url, recorded, "/openai/v1/chat/completions")
    client = Groq(base_url=base, api_key="sk-client", default_headers=headers, max_retries=0, http_client=OLDER_HTTP)
    if recorded.streamed:
        return _dump(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    return client.chat.completions.create(model=MODEL, messages=MESSAGES).model_dump(warnings=False)


OLDER_HTTP = httpx.Client(timeout=20)
atexit.register(OLDER_HTTP.close)


def cohere_chat_v1(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client, options = _cohere(url, recorded, headers, "/v1/chat")
    if recorded.streamed:
        return _dump(client.chat_stream(message="hi", request_options=options))
    return client.chat(message="hi", request_options=options).model_dump(warnings=False)


def cohere_chat_v2(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client, options = _cohere(url, recorded, headers, "/v2/chat")
    if recorded.streamed:
        return _dump(client.v2.chat_stream(model=MODEL, messages=MESSAGES, request_options=options))
    return client.v2.chat(model=MODEL, messages=MESSAGES, request_options=options).model_dump(warnings=False)


def cohere_embed(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client, options = _cohere(url, recorded, headers, "/v2/embed")
    kinds: Any = {"input_type": "search_query", "embedding_types": ["float"]}
    return client.v2.embed(model=MODEL, texts=["hi"], request_options=options, **kinds).model_dump(warnings=False)


def cohere_generate(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client, options = _cohere(url, recorded, headers, "/v1/generate")
    if recorded.streamed:
        return _dump(client.generate_stream(prompt="hi", request_options=options))
    return client.generate(prompt="hi", request_options=options).model_dump(warnings=False)


def cohere_rerank(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client, options = _cohere(url, recorded, headers, "/v2/rerank")
    return client.v2.rerank(model=MODEL, query="hi", documents=["hi"], request_options=options).model_dump(
        warnings=False
    )


def _cohere(url: str, recorded: Recorded, headers: dict[str, str], suffix: str) -> tuple[cohere.Client, Any]:
    base, _ = _base(url, recorded, suffix)
    client = cohere.Client(api_key="sk-client", base_url=base, httpx_client=OLDER_HTTP, max_retries=0)
    return client, {"additional_headers": headers, "max_retries": 0}


# Dialect, or provider and dialect → what ends the path the driver's SDK asks for, and the driver.
DRIVERS: Mapping[str, tuple[str, Driver]] = {
    **media_drivers.DRIVERS,
    **cloud_drivers.DRIVERS,
    "openai.chat": ("/chat/completions", chat),
    "openai.completions": ("/completions", completions),
    "openai.embeddings": ("/embeddings", embeddings),
    "openai.responses": ("/responses", responses),
    "anthropic.messages": ("/v1/messages", messages),
    "ollama.chat": ("/api/chat", ollama_chat),
    "ollama.generate": ("/api/generate", ollama_generate),
    "ollama.embed": ("/api/embed", ollama_embed),
    "cohere.chat_v1": ("/v1/chat", cohere_chat_v1),
    "cohere.chat_v2": ("/v2/chat", cohere_chat_v2),
    "cohere.embed": ("/v2/embed", cohere_embed),
    "cohere.generate": ("/v1/generate", cohere_generate),
    "cohere.rerank": ("/v2/rerank", cohere_rerank),
    "groq openai.chat": ("/openai/v1/chat/completions", groq_chat),
}


def driver_of(recorded: Recorded) -> Driver | None:
    """The driver for a recording; None if no SDK asks for such a path."""
    dialect = recorded.recording.operation.dialect
    if dialect == "gemini.stream_generate" and "alt=sse" not in recorded.path:
        return None  # Google's SDK always asks for events; of an array it would make an error, and leave
    found = DRIVERS.get(f"{recorded.provider} {dialect}") or DRIVERS.get(dialect)
    return found[1] if found and re.search(f"{found[0]}$", urlsplit(recorded.path).path) else None


def outcome(driver: Driver, url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    """What the SDK made of the answer."""
    try:
        return driver(url, recorded, headers)
    except Exception as error:  # noqa: BLE001 - an SDK's error is its answer too
        return type(error).__name__, str(error)
