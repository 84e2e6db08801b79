"""Servers people run themselves, in dialects of their own: llama.cpp and LM Studio."""

from typing import Any

from metering.core.dialects.counts import count
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.told import Layout, Told
from metering.core.usage import Usage

_UNSEEN = "by its documents and source, no recorded answer"


class LlamaCpp(Told):
    """`tokens_evaluated` is the whole prompt. `tokens_cached` is what stays in the cache afterwards, not what was read
    from it: that is what `timings` leave of the prompt. `timings` stand behind the prompt, which the answer repeats:
    of a long one they are all that is kept.
    """

    def count(self, raw: dict[str, Any]) -> Usage | None:
        usage = super().count(raw) or Usage()
        timings = _counts(raw.get("timings"))
        evaluated, cached = timings.get("prompt_n"), timings.get("cache_n")
        read = usage.input_tokens
        if read is None and evaluated is not None:
            read = evaluated + (cached or 0)
        elif cached is None and evaluated is not None and read is not None:
            cached = max(0, read - evaluated)  # servers of before `cache_n`
        written = max(
            (told for told in (usage.output_tokens, timings.get("predicted_n")) if told is not None), default=None
        )
        if read is None and written is None:
            return None
        return Usage(input_tokens=read, output_tokens=written, cache_read_input_tokens=cached)


def _counts(timings: object) -> dict[str, int]:
    members = timings.items() if isinstance(timings, dict) else ()
    return {name: told for name, value in members if (told := count(value)) is not None}


_LLAMA = LlamaCpp(
    Layout(
        places={"input_tokens": (("tokens_evaluated",),), "output_tokens": (("tokens_predicted",),)},
        holds=("tokens_evaluated", "tokens_predicted", "timings"),
        ends=("stop", "stop_type"),
    )
)
_LM_STUDIO = Told(
    Layout(
        places={
            "input_tokens": (("input_tokens",),),
            "output_tokens": (("total_output_tokens",),),
            "reasoning_output_tokens": (("reasoning_output_tokens",),),
        },
        holds=("stats",),
        inside=("result",),
        model="model_instance_id",
        response_id="response_id",
    )
)

DIALECTS = (
    Dialect(
        name="llamacpp.completion",
        operation_name="text_completion",
        routes=(Route("POST", "completion"), Route("POST", "infill")),
        meaning=_LLAMA,
        spoken_by="llama.cpp, llamafile",
        input_total="`tokens_evaluated`",
        output_total="`tokens_predicted`",
        stream_usage="each event, so far; the last has `stop`",
        gaps=f"{_UNSEEN}; `/completions` is read as `openai.completions`, by its `timings`",
    ),
    Dialect(
        name="llamacpp.embedding",
        operation_name="embeddings",
        routes=(Route("POST", "embedding"),),
        meaning=_LLAMA,
        spoken_by="llama.cpp",
        input_total="told by old versions only",
        gaps=_UNSEEN,
    ),
    Dialect(
        name="lmstudio.chat",
        operation_name="chat",
        routes=(Route("POST", "api/v1/chat"),),
        meaning=_LM_STUDIO,
        spoken_by="LM Studio",
        input_total="`stats.input_tokens`",
        output_total="`stats.total_output_tokens`",
        stream_usage="`chat.end`",
        gaps=_UNSEEN,
    ),
)
