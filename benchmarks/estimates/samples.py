"""Recorded exchanges that report their usage, read with it hidden: what was reported beside what we count.

What can't be compared is excluded by rules that look at the exchange and never at the error; each is counted.
"""

import re
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import msgspec

from metering.core.dialects import open_reader, read_request
from metering.core.dialects.windows import Kept
from metering.core.texts import Kind, Texts, payloads, read_texts, written_texts
from metering.core.texts.families import Family, family_of
from metering.core.usage import Usage
from metering.jobs.check_dialects import Recording
from metering.sidecar.estimate.estimator import Estimator
from metering.sidecar.estimate.jobs import Job, Text

OTHER_CALLS = re.compile(r"_ws|batch|images?$|audio|speech|stt|videos|rerank|count_tokens|ocr|runs|guardrail|compact")
_TOOLS_RAN = re.compile(
    rb'"(web_search_call|file_search_call|code_interpreter_call|image_generation_call|mcp_call|server_tool_use|compaction'
    rb'|executed_tools|groundingMetadata|executableCode|search_results|computer_call)"'
)
_MODEL_IN_URL = re.compile(r"/models?/([^/:?]+)")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange. Tokens; None where nothing is told or counted."""

    file: str
    provider: str
    dialect: str
    model: str
    family: Family
    fitted: bool  # its half is the one that factors are fitted on
    told_written: int | None
    told_reasoning: int
    told_read: int | None
    texts: Texts  # of the answer
    asked: Texts  # of the request
    estimate: Usage
    estimator: str

    @property
    def responses(self) -> bool:
        """Whether it is of the responses dialect."""
        return self.dialect.startswith("openai.responses")

    def seen(self, reasoning: int) -> int:
        """What could be seen of the output: reasoning beyond ours, which is what was shown, was hidden."""
        return (self.told_written or 0) - max(0, self.told_reasoning - reasoning)

    @property
    def written_error(self) -> float | None:
        """How far our output tokens are from those that could be seen, as a part of these."""
        ours = self.estimate.output_tokens
        if ours is None or not self.told_written:
            return None
        return miss(ours, self.seen(self.estimate.reasoning_output_tokens or 0))

    @property
    def read_error(self) -> float | None:
        """How far our input tokens are from the reported ones."""
        ours = self.estimate.input_tokens
        return None if ours is None or not self.told_read else miss(ours, self.told_read)


def miss(ours: int, theirs: int) -> float:
    """The error of a count as a part of the true one."""
    return abs(ours - theirs) / max(1, theirs)


class Excluded(msgspec.Struct, frozen=True):
    """One that says nothing about output tokens, and why."""

    file: str
    why: str


def read_samples(directory: Path, estimator: Estimator) -> tuple[list[Sample], list[Excluded]]:
    """Every recording below `directory` that reports tokens."""
    samples, excluded = [], []
    for path in sorted(directory.rglob("*.json")):
        recording = msgspec.json.decode(path.read_bytes(), type=Recording)
        told = recording.expected_usage or {}
        if not (told.get("output_tokens") or told.get("input_tokens")):
            continue
        file = str(path.relative_to(directory))
        sample = _sample(recording, told, file, estimator)
        if isinstance(sample, str):
            excluded.append(Excluded(file, sample))
        else:
            samples.append(sample)
    return samples, excluded


def _sample(recording: Recording, told: dict[str, int], file: str, estimator: Estimator) -> Sample | str:
    if OTHER_CALLS.search(recording.dialect) or OTHER_CALLS.search(recording.operation.dialect):
        return "no call whose texts are all there is (realtime, batches, images, audio, runs, reranking)"
    headers = {name.lower(): str(value) for name, value in recording.response_headers.items()}
    content_type, body, operation = headers.get("content-type", ""), recording.body, recording.operation
    request = msgspec.json.encode(recording.request_body)
    reader = open_reader(operation, status=200, content_type=content_type, content_encoding="")
    reader.feed(body)
    named = _MODEL_IN_URL.search(recording.url)
    model = (
        reader.finish().response_model or read_request(operation, request).model or (named and unquote(named[1])) or ""
    )
    texts = written_texts(payloads(Kept(body, b"", 0), content_type))
    family = family_of(model)
    if why := _excluded(texts, family, body, told):
        return why
    estimate = estimator.estimate(
        Job(number=0, dialect=recording.dialect, model=model, route="", request=Text(request), answer=Text(body),
            content_type=content_type)
    )  # fmt: skip
    return Sample(
        file=file,
        provider=recording.provider,
        dialect=recording.dialect,
        model=model,
        family=family,
        fitted=sha256(body).digest()[0] % 2 == 0,
        told_written=told.get("output_tokens"),
        told_reasoning=told.get("reasoning_tokens") or 0,
        told_read=told.get("input_tokens"),
        texts=texts,
        asked=read_texts(recording.request_body, responses=recording.dialect.startswith("openai.responses")),
        estimate=estimate.usage or Usage(),
        estimator=estimate.estimator or estimate.refused,
    )


def _excluded(texts: Texts, family: Family, body: bytes, told: dict[str, int]) -> str:
    written = told.get("output_tokens")
    if not written:
        return ""  # embeddings: only what was read is compared
    if _TOOLS_RAN.search(body) or any(name.startswith("web_search") and amount for name, amount in told.items()):
        return "tools ran at the provider: what the model wrote for them is not in the answer"
    if not texts.of(Kind.TEXT, Kind.REASONING, Kind.CALL, Kind.ARGUMENTS):
        return "no text in the answer (all of it was hidden reasoning, or encrypted)"
    if family.rounds_reasoning and "reasoning_tokens" in told:
        return "reasoning is reported in steps of 64: what is left for the text is not known"
    return ""
