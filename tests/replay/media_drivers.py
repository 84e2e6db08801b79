"""How SDKs are made to ask for what is no chat: pictures, sound, batches, and objects that are polled."""

import atexit
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from mistralai.client import Mistral
from openai import OpenAI

from tests.replay.recorded import Recorded

Driver = Callable[[str, Recorded, dict[str, str]], Any]
MODEL = "asked-for"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
PICTURE, SOUND = ("a.png", b"\x89PNG\r\n\x1a\n" * 9), ("a.mp3", b"\xff\xf3\xc4\xc4" * 20_000)
HTTP = httpx2.Client(timeout=20)
atexit.register(HTTP.close)


def _openai(url: str, recorded: Recorded, headers: dict[str, str], mark: str) -> OpenAI:
    """A client whose base URL ends where the recorded path has `mark`."""
    parts = urlsplit(recorded.path)
    base, found, _ = parts.path.partition(mark)
    assert found, f"{recorded.name} is not a {mark}"
    return OpenAI(base_url=url + base, api_key="sk-client", default_headers=headers,
                  default_query=dict(parse_qsl(parts.query)), max_retries=0, http_client=HTTP)  # fmt: skip


def _last(recorded: Recorded) -> str:
    """The id a path ends in."""
    return urlsplit(recorded.path).path.rpartition("/")[2]


def _dumped(answer: Any) -> Any:
    """What the SDK made of an answer, streamed or not, to be compared."""
    if isinstance(answer, str | bytes):
        return answer
    if hasattr(answer, "model_dump"):
        return answer.model_dump(warnings=False)
    return [part.model_dump(warnings=False) for part in answer]


@contextmanager
def _still_used() -> Iterator[None]:
    """The SDK says that this interface ends; its users are still there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def images(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask, verb = _openai(url, recorded, headers, "/images/").images, _last(recorded)
    if verb == "generations":
        return _dumped(ask.generate(model=MODEL, prompt="hi", stream=recorded.streamed))
    if verb == "edits":
        return _dumped(ask.edit(model=MODEL, prompt="hi", image=PICTURE, stream=recorded.streamed))
    with _still_used():
        return _dumped(ask.create_variation(model=MODEL, image=PICTURE))


def speech(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    asked = recorded.recording.request_body or {}
    return (
        _openai(url, recorded, headers, "/audio/speech")
        .audio.speech.create(
            model=MODEL,
            input=asked.get("input", "hi"),
            voice="alloy",
            stream_format="sse" if recorded.streamed else "audio",
        )
        .read()
    )


def transcriptions(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    audio = _openai(url, recorded, headers, "/audio/").audio
    if _last(recorded) == "translations":
        with _still_used():
            return _dumped(audio.translations.create(model=MODEL, file=SOUND))
    plain = not recorded.streamed and dict(recorded.head()[1]).get("content-type", "").startswith("text/")
    shape: Any = {"response_format": "srt"} if plain else {}
    return _dumped(audio.transcriptions.create(model=MODEL, file=SOUND, stream=recorded.streamed, **shape))


def retrieved_response(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/responses/").responses
    if recorded.recording.method == "POST":
        return _dumped(ask.cancel(urlsplit(recorded.path).path.split("/")[-2]))
    return _dumped(ask.retrieve(_last(recorded), stream=recorded.streamed))


def batch(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/batches").batches
    if recorded.recording.method == "POST":
        return _dumped(ask.create(input_file_id="file-1", endpoint="/v1/responses", completion_window="24h"))
    return _dumped(ask.retrieve(_last(recorded)))


def file_content(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    name = urlsplit(recorded.path).path.split("/")[-2]
    return _openai(url, recorded, headers, "/files/").files.content(name).read()


def moderation(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    return _dumped(_openai(url, recorded, headers, "/moderations").moderations.create(input="hi"))


def run(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client = _openai(url, recorded, headers, "/threads/")
    with _still_used():
        ask = client.beta.threads.runs
        if recorded.recording.method == "POST":
            return _dumped(ask.create("thread_1", assistant_id="asst_1", stream=recorded.streamed))
        return _dumped(ask.retrieve(_last(recorded), thread_id="thread_1"))


def training(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    ask = _openai(url, recorded, headers, "/fine_tuning/").fine_tuning.jobs
    if recorded.recording.method == "POST":
        return _dumped(ask.create(model=MODEL, training_file="file-1"))
    return _dumped(ask.retrieve(_last(recorded)))


def video(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    client = _openai(url, recorded, headers, "/videos")
    with _still_used():
        if recorded.recording.method == "POST":
            return _dumped(client.videos.create(model="sora-2", prompt="hi"))
        return _dumped(client.videos.retrieve(_last(recorded)))


def _mistral(url: str, recorded: Recorded) -> Mistral:
    base = url + urlsplit(recorded.path).path.partition("/v1/")[0]
    return Mistral(api_key="client", server_url=base)


def mistral_chat(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _mistral(url, recorded) as client:
        if recorded.streamed:
            return _dumped(client.chat.stream(model=MODEL, messages=MESSAGES, http_headers=headers))
        return _dumped(client.chat.complete(model=MODEL, messages=MESSAGES, http_headers=headers))


def mistral_ocr(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    document: Any = {"type": "document_url", "document_url": "https://papers.invalid/a.pdf"}
    with _mistral(url, recorded) as client:
        return _dumped(client.ocr.process(model=MODEL, document=document, http_headers=headers))


def mistral_batch(url: str, recorded: Recorded, headers: dict[str, str]) -> Any:
    with _mistral(url, recorded) as client:
        if recorded.recording.method == "POST":
            asked: Any = {"model": MODEL, "endpoint": "/v1/chat/completions"}
            return _dumped(client.batch.jobs.create(**asked, http_headers=headers))
        return _dumped(client.batch.jobs.get(job_id=_last(recorded), http_headers=headers))


# As `drivers.DRIVERS`. Mistral's chats are asked for by Mistral's own SDK.
DRIVERS: Mapping[str, tuple[str, Driver]] = {
    "openai.images": ("/images/(generations|edits|variations)", images),
    "openai.audio.speech": ("/audio/speech", speech),
    "openai.audio.transcriptions": ("/audio/(transcriptions|translations)", transcriptions),
    "openai.responses.retrieve": ("/responses/[^/]+(/cancel)?", retrieved_response),
    "openai.batches": ("/batches(/[^/]+)?", batch),
    "openai.files.content": ("/files/[^/]+/content", file_content),
    "openai.moderations": ("/v1/moderations", moderation),
    "openai.assistants.runs": ("/runs(/[^/]+)?", run),
    "openai.fine_tuning": ("/fine_tuning/jobs(/[^/]+)?", training),
    "openai.videos": ("/videos(/[^/]+)?", video),
    "mistral.ocr": ("/v1/ocr", mistral_ocr),
    "mistral.batches": ("/batch/jobs(/[^/]+)?", mistral_batch),
    "mistral openai.chat": ("/v1/chat/completions", mistral_chat),
}
