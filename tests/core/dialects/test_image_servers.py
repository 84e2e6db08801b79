"""Pictures are counted by what was made, or else by what was asked for."""

import json
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, fill_in, open_reader, read_request
from metering.core.dialects.windows import KEPT_BYTES_MAX
from metering.core.usage import Usage, UsageSource

TXT2IMG = "/sdapi/v1/txt2img"
MADE = {"steps": 20, "batch_size": 2, "n_iter": 3, "width": 512, "height": 768, "prompt": "a secret"}


def _read(
    path: str, body: bytes, asked: bytes = b"{}", provider: str = "", *, method: str = "POST", status: int = 200
) -> Reading:
    operation = classify(method, path, provider)
    reader = open_reader(operation, status=status, content_type="", content_encoding="", provider=provider)
    reader.feed(body)
    return fill_in(reader.finish(), read_request(operation, asked))


def _json(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_what_was_made_goes_before_what_was_asked_for() -> None:
    pictures = ["A" * KEPT_BYTES_MAX, "B"]  # a grid of all, or previews: their number is not the number made
    reading = _read(TXT2IMG, _json(images=pictures, parameters=MADE, info="{}"), _json(prompt="x", steps=50))
    assert (reading.usage, reading.usage_source) == (Usage(output_images=6), UsageSource.REPORTED)
    assert reading.variant == "512x768 20 steps"
    assert reading.raw_usage == {name: told for name, told in MADE.items() if name != "prompt"}


@pytest.mark.parametrize(
    ("path", "asked", "images", "variant"),
    [
        (TXT2IMG, _json(batch_size=2, n_iter=2, width=64, height=64), 4, "64x64"),
        (TXT2IMG, b"no json", 1, None),
        (
            "/v1/generation/sd-xl/text-to-image",
            _json(samples=3, width=1024, height=1024, steps=30),
            3,
            "1024x1024 30 steps",
        ),
        ("/v2beta/stable-image/generate/core", b"", 1, None),
    ],
)
def test_where_the_answer_tells_nothing_the_request_does(
    path: str, asked: bytes, images: int, variant: str | None
) -> None:
    reading = _read(path, b"\x89PNG", asked)
    assert (reading.usage, reading.usage_source, reading.estimator) == (
        Usage(output_images=images),
        UsageSource.ESTIMATED,
        "request",
    )
    assert reading.variant == variant
    assert _read(path, b"{}", asked, status=403).usage is None


def test_a_form_names_the_model() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nsd3.5-large\r\n--b--\r\n'
    operation = classify("POST", "/v2beta/stable-image/generate/sd3")
    assert (operation.model, read_request(operation, form).model) == ("sd3", "sd3.5-large")


def test_a_prompts_pictures_are_counted_once_and_previews_never() -> None:
    kept, preview = {"filename": "a", "type": "output"}, {"filename": "b", "type": "temp"}
    told = {"outputs": {"9": {"images": [kept, kept, preview, 7]}, "8": 7}, "status": {"completed": True}}
    reading = _read("/history/q-1", _json(**{"q-1": told}), provider="comfyui", method="GET")
    assert (reading.usage, reading.once, reading.response_id) == (Usage(output_images=2), True, "q-1")
    queued = _read("/prompt", _json(prompt_id="q-1"), provider="comfyui")
    assert (queued.usage_source, queued.once, queued.response_id) == (UsageSource.UNKNOWN, False, "q-1")
    running = _read("/history/q-1", b"{}", provider="comfyui", method="GET")
    assert running.usage_source is UsageSource.NONE
