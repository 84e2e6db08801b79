"""A real tiny model behind the sidecar: the statement's tokens are those that the model server itself counts."""

import os
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from metering.lab.programs import ask_command
from metering.lab.stack import Stack

# What the server counts, and the meter of ours that must say the same.
COUNTERS = {
    "llamacpp:prompt_tokens_total": "input",  # read anew: cache reads are not in it
    "llamacpp:prompt_tokens_cached_total": "cache_read_input",
    "llamacpp:tokens_predicted_total": "output",
}


@pytest.fixture
def stack(model_url: str, database_url: str, tmp_path: Path) -> Iterator[Stack]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METERING_")}
    environ |= {"METERING_DATABASE_URL": database_url, "METERING_STATE_DIR": str(tmp_path / "state")}
    stack = Stack(tmp_path, environ)
    try:
        stack.start(upstream=model_url)
        yield stack
    finally:
        stack.stop()


def counters(model_url: str) -> dict[str, int]:
    text = httpx.get(f"{model_url}/metrics").text
    return {name: int(re.findall(rf"^{name} (\d+)$", text, re.MULTILINE)[0]) for name in COUNTERS}


def headers(team: str) -> dict[str, str]:
    return {"x-team": team, "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}


def speak_openai(base: str) -> None:
    ask: Any = {"model": "smollm2", "max_tokens": 4, "temperature": 0}
    messages: Any = [{"role": "user", "content": "Name three colours of the rainbow."}]
    client_headers = headers("colours")
    with OpenAI(base_url=f"{base}/openai/v1", api_key="none", default_headers=client_headers, max_retries=0) as client:
        for _ in range(2):  # the second time most of the prompt comes from the cache
            answer = client.chat.completions.create(messages=messages, **ask)
            assert answer.choices[0].message.content
        streamed: Any = {"stream": True, "stream_options": {"include_usage": True}}
        with client.chat.completions.create(messages=messages, **ask, **streamed) as stream:
            assert list(stream)[-1].usage


def speak_anthropic(base: str) -> None:
    ask: Any = {"model": "smollm2", "max_tokens": 4}
    messages: Any = [{"role": "user", "content": "Name three rivers of Europe, the longest one first."}]
    client_headers = headers("rivers")
    with Anthropic(
        base_url=f"{base}/anthropic", api_key="none", default_headers=client_headers, max_retries=0
    ) as client:
        assert client.messages.create(messages=messages, **ask).content
        with client.messages.stream(messages=messages, **ask) as stream:
            assert stream.get_final_message().usage.output_tokens


def test_the_statement_says_what_the_model_server_counted(stack: Stack, model_url: str) -> None:
    before = counters(model_url)
    speak_openai(stack.url)
    speak_anthropic(stack.url)
    after = counters(model_url)
    stack.count_events(5, within_seconds=20)
    statement = ask_command(["report", "--period", f"{datetime.now(UTC):%Y-%m}", "--by", "team"], stack.environ)
    quantities = statement["total"]["quantities"]
    consumed = {meter: after[counter] - before[counter] for counter, meter in COUNTERS.items()}
    assert min(consumed.values()) > 0
    assert {meter: quantities[meter] for meter in COUNTERS.values()} == consumed
    assert {line["name"]: line["calls"] for line in statement["lines"]} == {"colours": 3, "rivers": 2}
    assert statement["total"]["unknown_calls"] == 0
    assert all(check["holds"] for check in ask_command(["verify"], stack.environ))
