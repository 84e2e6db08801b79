"""One job: its bytes parsed, its texts found and counted."""

import re
from typing import Any

from msgspec.structs import replace

from metering.core.dialects.decoding import Decoding, OverCap
from metering.core.dialects.scan import parse
from metering.core.dialects.windows import Kept
from metering.core.texts import Texts, payloads, read_texts, written_texts
from metering.core.texts.counting import Read, Written, count_read, count_written
from metering.core.usage import Usage
from metering.errors import EstimateError
from metering.sidecar.estimate.jobs import Estimate, Job, Text
from metering.sidecar.estimate.tokenizers import Counter, Tokenizers

DECODED_BYTES_MAX = 4 * 1024**2
_DATA = re.compile(rb"[A-Za-z0-9+/=_-]{512,}")  # an image or a file in base64, as no text looks


class Estimator:
    """Estimates jobs; loads a vocabulary when it first needs it."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        self._tokenizers = tokenizers

    def estimate(self, job: Job) -> Estimate:
        """What `job` consumed, or why that can't be said. Never raises."""
        try:
            return self._estimate(job)
        except EstimateError as error:
            return Estimate(number=job.number, refused=str(error))
        except Exception as error:  # noqa: BLE001 - whatever a body does to us, the next job is counted; no text leaves
            return Estimate(number=job.number, refused=type(error).__name__)

    def _estimate(self, job: Job) -> Estimate:
        known = job.usage or Usage()
        counter = self._tokenizers.of(job.model, job.route)
        values, sampled = _answer_values(job)
        request, _ = _decode(job.request)
        asked = None if request.dropped else parse(request.head)
        texts = read_texts(asked, responses=_is_responses(job))
        written = read = None
        if known.output_tokens is None or _told_at_start_only(values):
            schema = bool(texts.schemas())
            written = _count_answer(values, counter, job, schema=schema, sampled=sampled)
            if written is None and _is_put_off(values, job, sampled=sampled):
                raise EstimateError("a whole answer without words: what is made later is told by another")
        if known.input_tokens is None:
            read = _count_request(asked, texts, counter) if asked else _sample_request(request, counter)
            sampled = sampled or bool(request.dropped)
        if written is None and read is None:
            raise EstimateError("no text that can be counted")
        sides = "" if known.input_tokens is None else " output only"
        name = f"{counter.name}{' sampled' if sampled else ''}{sides}"
        return Estimate(number=job.number, usage=_add(known, read, written), estimator=name)


def _add(known: Usage, read: Read | None, written: Written | None) -> Usage:
    """What the provider told, and ours where it told nothing. At its start a stream tells less than it will write."""
    if read is not None:
        known = replace(
            known,
            input_tokens=read.tokens,
            image_input_tokens=read.images or None,
            audio_input_tokens=read.sound or None,
        )
    if written is not None and written.tokens >= (known.output_tokens or 0):
        known = replace(known, output_tokens=written.tokens, reasoning_output_tokens=written.reasoning or None)
    return known


def _answer_values(job: Job) -> tuple[list[Any], bool]:
    """The JSON values of the answer, and whether a part of them is missing."""
    kept, cut = _decode(job.answer)
    return list(payloads(kept, job.content_type)), cut or bool(kept.dropped)


def _decode(text: Text) -> tuple[Kept, bool]:
    if text.encoding in ("", "identity"):
        return Kept(text.head, text.tail, text.dropped), False
    pieces: list[bytes] = []
    room = DECODED_BYTES_MAX

    def keep(piece: bytes) -> None:
        nonlocal room
        room -= len(piece)
        if room < 0:
            raise OverCap
        pieces.append(piece)

    decoding = Decoding(text.encoding, keep)
    decoding.feed(text.head)
    decoding.finish()
    if not decoding.readable:
        raise EstimateError("a body can't be decoded")
    return Kept(b"".join(pieces), b"", 0), False


def _told_at_start_only(values: list[Any]) -> bool:
    """Whether an Anthropic stream was cut before it told what it wrote: at its start it says 1 or so."""
    types = {value.get("type") for value in values if isinstance(value, dict)}
    return "message_start" in types and "message_delta" not in types


def _is_put_off(values: list[Any], job: Job, *, sampled: bool) -> bool:
    """Whether nothing was made yet: a background response or a deferred one, whose usage a later look tells."""
    whole = job.content_type.startswith("application/json") and len(values) == 1 and not sampled
    return whole and "embed" not in job.dialect


def _count_answer(values: list[Any], counter: Counter, job: Job, *, schema: bool, sampled: bool) -> Written | None:
    texts = written_texts(values)
    if not texts:
        return None
    family, responses = counter.family, _is_responses(job)
    written = count_written(texts, family, counter.count, responses=responses, schema=schema)
    if not sampled:
        return written
    kept = len(job.answer.head) + len(job.answer.tail)
    return Written(*(amount * (kept + job.answer.dropped) // kept for amount in (written.tokens, written.reasoning)))


def _is_responses(job: Job) -> bool:
    return job.dialect.startswith("openai.responses")


def _count_request(asked: Any, texts: Texts, counter: Counter) -> Read | None:
    told = counter.count_request(asked)
    if told is not None:
        return Read(told)
    return count_read(texts, counter.family, counter.count) if texts else None


def _sample_request(kept: Kept, counter: Counter) -> Read | None:
    """Of a request whose middle is gone: as many tokens for its bytes as its ends have, the JSON around counted too."""
    ends = kept.head + kept.tail
    if not kept.dropped or _DATA.search(ends):
        return None  # no JSON; pictures and files, whose bytes say nothing about tokens
    tokens = counter.count(kept.head.decode(errors="replace")) + counter.count(kept.tail.decode(errors="replace"))
    return Read(tokens * counter.family.permille // 1000 * (len(ends) + kept.dropped) // len(ends))
