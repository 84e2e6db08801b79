import json
from typing import Any

import pytest

from metering.core.dialects import Reading, classify, fill_in, open_reader, read_request
from metering.core.usage import Usage, UsageSource

BASE = "/v1beta/models/gemini-2.5-flash"
VERTEX = "/v1beta1/projects/p/locations/global/publishers/google/models"
PICTURE = "iVBOR" * 100_000


def _read(path: str, pieces: list[bytes]) -> Reading:
    reader = open_reader(classify("POST", path), status=200, content_type="application/json", content_encoding="")
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


@pytest.mark.parametrize(
    ("path", "dialect", "model"),
    [
        (f"{BASE}:generateContent?key=k", "gemini.generate", "gemini-2.5-flash"),
        ("/v1beta/tunedModels/mine-1:generateContent", "gemini.generate", "mine-1"),
        ("/v1/projects/p/locations/l/endpoints/77:generateContent", "gemini.generate", "77"),
        (f"{VERTEX}/gemini-2.0-flash:streamGenerateContent?alt=sse", "gemini.stream_generate", "gemini-2.0-flash"),
        ("/v1beta/models/gemini-embedding-2:batchEmbedContents", "gemini.embed", "gemini-embedding-2"),
        (f"{VERTEX}/text-embedding-005:predict", "vertex.predict", "text-embedding-005"),
        ("/v1beta/models/veo-3:predictLongRunning", "gemini.predict_long_running", "veo-3"),
        ("/v1beta/cachedContents", "gemini.cached_contents", None),
        ("/v1beta/interactions", "gemini.interactions", None),
    ],
)
def test_the_path_names_dialect_and_model(path: str, dialect: str, model: str | None) -> None:
    operation = classify("POST", path, "google")
    assert (operation.dialect, operation.model, operation.consumes) == (dialect, model, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{BASE}:countTokens"),
        ("POST", "/upload/v1beta/files"),
        ("GET", "/v1beta/files/f1"),
        ("GET", "/v1beta/cachedContents/c1"),
        ("GET", "/v1beta/models/veo-3/operations/o1"),
        ("POST", f"{VERTEX}/veo-3:fetchPredictOperation"),
        ("PATCH", "/v1beta/cachedContents/c1"),
    ],
)
def test_no_model_runs_for_upkeep(method: str, path: str) -> None:
    assert classify(method, path).consumes is False


def test_the_model_in_the_path_goes_before_the_resource_in_the_body() -> None:
    body = b'{"model":"models/other","contents":[]}'
    assert read_request(classify("POST", f"{BASE}:streamGenerateContent"), body).model == "gemini-2.5-flash"
    facts = read_request(classify("POST", "/v1beta/cachedContents"), body)
    assert (facts.model, facts.streamed) == ("other", False)


@pytest.mark.parametrize(
    ("path", "parameters", "counts", "variant"),
    [
        ("veo-3:predictLongRunning", {"durationSeconds": 4}, Usage(video_output_ms=4_000), "720p"),
        (
            "veo-3:predictLongRunning",
            {"sampleCount": 2, "resolution": "1080p", "generateAudio": False},
            Usage(video_output_ms=16_000),
            "1080p silent",
        ),
        ("imagen-4:predict", {"sampleCount": 3, "sampleImageSize": "2K"}, Usage(output_images=3), "2K"),
        ("imagen-4:predict", {}, Usage(output_images=4), None),
        ("text-embedding-005:predict", {"sampleCount": 3}, None, None),
    ],
)
def test_what_a_request_for_pictures_and_films_decides(
    path: str, parameters: dict[str, Any], counts: Usage | None, variant: str | None
) -> None:
    operation = classify("POST", f"/v1beta/models/{path}")
    facts = read_request(operation, json.dumps({"instances": [{}], "parameters": parameters}).encode())
    assert (facts.counts, facts.variant) == (counts, variant)
    if counts is not None:
        reading = fill_in(_read(f"/v1beta/models/{path}", [b'{"name":"operations/x"}']), facts)
        assert (reading.usage, reading.usage_source) == (counts, UsageSource.ESTIMATED)


def test_pictures_that_came_are_counted_not_those_asked_for() -> None:
    path = "/v1beta/models/imagen-4:predict"
    facts = read_request(classify("POST", path), b'{"parameters":{"sampleCount":4}}')
    body = b'{"predictions":[{"mimeType":"image/png","bytesBase64Encoded":"AA"},{"raiFilteredReason":"x"}]}'
    reading = fill_in(_read(path, [body]), facts)
    assert (reading.usage, reading.usage_source) == (Usage(output_images=1), UsageSource.REPORTED)


def _object(text: str, read: int, **more: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": read, "candidatesTokenCount": 2, "totalTokenCount": read + 2}
    candidate = {"content": {"parts": [{"inlineData": {"data": text}}]}} | more
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "g", "responseId": "r"}


@pytest.mark.parametrize("size", [1, 700, 65_536])
@pytest.mark.parametrize("large", [0, 2, 4])
@pytest.mark.parametrize("framing", ["sse", "array", "one line"])
def test_a_stream_with_a_picture_anywhere_is_read_from_its_ends(size: int, large: int, framing: str) -> None:
    objects = [
        _object(PICTURE if n == large else "Gr", 5 + n, **({"finishReason": "STOP"} if n == 4 else {}))
        for n in range(5)
    ]
    if framing == "sse":
        text = "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in objects)
    elif framing == "array":
        text = "[" + "\n,\r\n".join(json.dumps(each, indent=2) for each in objects) + "\n]"
    else:
        text = json.dumps(objects)
    body = text.encode()
    size = max(size, len(body) // 5_000)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    reading = _read(f"{BASE}:streamGenerateContent", pieces)
    assert (reading.usage, reading.response_model, reading.response_id) == (
        Usage(input_tokens=9, output_tokens=2), "g", "r",
    )  # fmt: skip


def test_queries_told_in_several_chunks_count_once() -> None:
    grounding = [{"webSearchQueries": ["a"]}, {"webSearchQueries": ["a", "b"]}, {"webSearchQueries": 7}]
    body = "".join(f"data: {json.dumps(_object('x', 3, groundingMetadata=each))}\n\n" for each in grounding)
    usage = _read(f"{BASE}:streamGenerateContent", [body.encode()]).usage
    assert usage is not None
    assert usage.web_search_requests == 2


def test_of_a_long_answer_with_embeddings_the_tokens_are_not_known() -> None:
    each = {"embeddings": {"statistics": {"token_count": 3}, "values": [0.123456789] * 4_000}}
    body = json.dumps({"predictions": [each] * 9, "metadata": {"billableCharacterCount": 90}}).encode()
    reading = _read(f"{VERTEX}/text-embedding-005:predict", [body])
    assert (reading.usage, reading.usage_source) == (Usage(input_characters=90), UsageSource.PARTIAL)


@pytest.mark.parametrize("within", ["response", "metadata"])
def test_a_batch_tells_what_its_answers_consumed_once(within: str) -> None:
    items = [{"response": _object("a", 5)}, {"error": {"code": 3}}, {"response": _object("b", 7)}]
    output = {"inlinedResponses": {"inlinedResponses": items}}
    state = {"model": "models/gemini-2.5-flash", "state": "BATCH_STATE_SUCCEEDED"}
    batch = {"name": "batches/b1", "metadata": state | ({"output": output} if within == "metadata" else {})}
    batch |= {"response": output} if within == "response" else {}
    operation = classify("GET", "/v1beta/batches/b1", "google")
    reader = open_reader(operation, status=200, content_type="", content_encoding="")
    reader.feed(json.dumps(batch).encode())
    reading = reader.finish()
    assert (operation.dialect, reading.usage, reading.usage_source) == ("gemini.batch", None, UsageSource.NONE)
    (answers,) = reading.others
    assert answers.usage == Usage(input_tokens=12, output_tokens=4)
    assert (answers.response_model, answers.response_id, answers.service_tier, answers.once) == (
        "g", "batches/b1", "batch", True,
    )  # fmt: skip
