"""Replicate's predictions: made by one call, looked at by others until they end; `metrics` tell what they took."""

from typing import Any

from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.dialects.told import Layout, Told

_PENDING = ("starting", "processing", "queued")


class Prediction(Told):
    """Several answers tell the same prediction's usage: the call that waits for it, and each look at it."""

    def take(self, answer: Any, found: Found) -> None:
        super().take(answer, found)
        found.once = True
        found.pending = answer.status in _PENDING


_METRICS = Prediction(
    Layout(
        places={
            "compute_ms": (("predict_time",),),
            "input_tokens": (("input_token_count",), ("token_input_count",)),
            "output_tokens": (("output_token_count",), ("token_output_count",)),
            "output_images": (("image_output_count",), ("image_count",)),
            "video_output_ms": (("video_output_duration_seconds",),),
            "audio_output_ms": (("audio_output_duration_seconds",),),
            "input_characters": (("character_input_count",),),
        },
        holds=("metrics",),
        fails=("status", ("failed", "canceled", "aborted")),
    )
)


class _PredictionRequest(RequestMeaning):
    """Without a model in the path, a version names what runs."""

    members = ("version",)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:  # noqa: ARG002 - no stream to look for
        return RequestFacts(operation.model or word(members.get("version")), None)


DIALECTS = (
    Dialect(
        name="replicate.predictions",
        routes=(
            Route("POST", "v1/predictions"),
            Route("POST", "models/{part}/{model}/predictions"),
            Route("POST", "deployments/{part}/{model}/predictions"),
            Route("GET", "v1/predictions/*", looks=True),
            Route("POST", "v1/predictions/*/cancel", looks=True),
        ),
        meaning=_METRICS,
        request=_PredictionRequest(),
        spoken_by="Replicate",
        input_total="`metrics.input_token_count`",
        output_total="`metrics.output_token_count`",
        also_counts="machine time, images, seconds of video and sound; once a prediction",
        gaps="a prediction nobody looks at after its end stays unknown; of `metrics`, only the time was seen",
    ),
)
