"""How Google's and Amazon's SDKs are made to ask for a recorded exchange; see `drivers`."""

import atexit
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from boto3 import Session
from botocore.config import Config
from botocore.eventstream import EventStream
from botocore.response import StreamingBody
from google.genai import Client

from tests.replay.recorded import Recorded

MODEL = "asked-for"
SAID: list[Any] = [{"role": "user", "content": [{"text": "hi"}]}]
GOOGLE = Client(api_key="client")
atexit.register(GOOGLE.close)
AWS = Session("AKIACLIENT", "client", region_name="us-east-1")
PATIENCE = Config(retries={"max_attempts": 0})


def _there(url: str, headers: dict[str, str]) -> Any:
    """Where one call of the client goes: making a client takes a third of a second."""
    return {"http_options": {"base_url": url, "api_version": "v1beta", "headers": headers}}


def generate(url: str, _: Recorded, headers: dict[str, str]) -> Any:
    return GOOGLE.models.generate_content(model=MODEL, contents="hi", config=_there(url, headers)).model_dump()


def generate_stream(url: str, _: Recorded, headers: dict[str, str]) -> Any:
    stream = GOOGLE.models.generate_content_stream(model=MODEL, contents="hi", config=_there(url, headers))
    return [part.model_dump() for part in stream]


def embed(url: str, _: Recorded, headers: dict[str, str]) -> Any:
    return GOOGLE.models.embed_content(model=MODEL, contents="hi", config=_there(url, headers)).model_dump()


def count_tokens(url: str, _: Recorded, headers: dict[str, str]) -> Any:
    return GOOGLE.models.count_tokens(model=MODEL, contents="hi", config=_there(url, headers)).model_dump()


@contextmanager
def _bedrock(url: str, recorded: Recorded, headers: dict[str, str]) -> Iterator[Any]:
    """A client that signs what it asks: the signature passes through, and nobody checks it here."""
    base = url + urlsplit(recorded.path).path.partition("/model/")[0]
    with closing(AWS.client("bedrock-runtime", endpoint_url=base, config=PATIENCE)) as client:
        client.meta.events.register("before-sign", partial(_put, headers))
        yield client


def _put(headers: dict[str, str], request: Any, **_: Any) -> None:
    for name, value in headers.items():
        request.headers[name] = value


def _plain(answer: Any) -> Any:
    """What boto3 made of an answer, read to its end, without what differs from one call to the next."""
    for name in ("stream", "body"):
        body = answer.get(name)
        if isinstance(body, EventStream | StreamingBody):
            with closing(body):
                answer[name] = list(body) if isinstance(body, EventStream) else body.read()
    told = answer["ResponseMetadata"]
    return answer | {"ResponseMetadata": (told["HTTPStatusCode"], told.get("RequestId"), told["HTTPHeaders"])}


def converse(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _bedrock(url, recorded, headers) as client:
        return _plain(client.converse(modelId=_model(recorded), messages=SAID))


def converse_stream(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _bedrock(url, recorded, headers) as client:
        return _plain(client.converse_stream(modelId=_model(recorded), messages=SAID))


def invoke(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _bedrock(url, recorded, headers) as client:
        return _plain(client.invoke_model(modelId=_model(recorded), body=b"{}"))


def invoke_stream(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _bedrock(url, recorded, headers) as client:
        return _plain(client.invoke_model_with_response_stream(modelId=_model(recorded), body=b"{}"))


def _model(recorded: Recorded) -> str:
    return recorded.recording.operation.model or ""


# Google's SDK asks at a path of its own, whatever the recorded one is.
DRIVERS: Mapping[str, tuple[str, Callable[[str, Recorded, dict[str, str]], Any]]] = {
    "gemini.generate": ("", generate),
    "gemini.stream_generate": ("", generate_stream),
    "gemini.embed": ("", embed),
    "gemini.count_tokens": ("", count_tokens),
    "bedrock.converse": ("/converse", converse),
    "bedrock.converse_stream": ("/converse-stream", converse_stream),
    "bedrock.invoke": ("/invoke", invoke),
    "bedrock.invoke_stream": ("/invoke-with-response-stream", invoke_stream),
}
