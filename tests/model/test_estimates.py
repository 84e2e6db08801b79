"""A real model server's own /tokenize: what is counted by it is what it reports."""

from pathlib import Path

import httpx

from metering.core.usage import Usage
from metering.sidecar.config import parse_config
from metering.sidecar.estimate.estimator import Estimator
from metering.sidecar.estimate.jobs import Job, Text
from metering.sidecar.estimate.tokenizers import Tokenizers

BODY = {
    "model": "any",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello to everybody."}],
    "max_tokens": 24,
    "temperature": 0,
}


def test_the_model_server_counts_as_it_reports(model_url: str, tmp_path: Path) -> None:
    request = httpx.Request("POST", f"{model_url}/v1/chat/completions", json=BODY)
    with httpx.Client(timeout=60) as client:
        answer = client.send(request)
    told = answer.json()["usage"]
    config = f'[[route]]\npath = "/llama"\nupstream = "{model_url}"\nprovider = "llamacpp"\ntokenize = "llamacpp"\n'
    estimator = Estimator(Tokenizers(parse_config(config, tmp_path)))
    job = Job(
        dialect="openai.chat",
        model="any",
        route="/llama",
        request=Text(request.content),
        answer=Text(answer.content),
        content_type="application/json",
    )
    found = estimator.estimate(job)
    assert found.estimator == "llamacpp /tokenize"
    assert isinstance(found.usage, Usage)
    assert found.usage.input_tokens == told["prompt_tokens"]
    # It counts the token that ends the answer, if one did; and a text may be written in more tokens than it needs.
    assert abs((found.usage.output_tokens or 0) - told["completion_tokens"]) <= 2


def test_a_model_server_that_is_away_is_said_without_a_text(tmp_path: Path) -> None:
    config = '[[route]]\npath = "/llama"\nupstream = "http://127.0.0.1:9"\nprovider = "vllm"\ntokenize = "vllm"\n'
    estimator = Estimator(Tokenizers(parse_config(config, tmp_path)))
    job = Job(
        dialect="openai.chat",
        model="any",
        route="/llama",
        request=Text(b'{"messages":[{"role":"user","content":"canary"}]}'),
        answer=Text(b'{"choices":[{"message":{"content":"canary"}}]}'),
        content_type="application/json",
    )
    refused = estimator.estimate(job).refused
    assert refused == "the model's server does not answer /tokenize: ConnectionRefusedError"
