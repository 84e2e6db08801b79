"""Servers of the Stable Diffusion kind: pictures are counted; size and steps are the variant."""

from typing import Any

import msgspec

from metering.core.dialects.counts import count, numbers, word
from metering.core.dialects.dialect import Dialect, RequestMeaning, Route
from metering.core.dialects.found import Found
from metering.core.dialects.one_object import NOT_THERE, OneObject
from metering.core.dialects.openai_media import picture_size, variant
from metering.core.dialects.reading import Operation, RequestFacts
from metering.core.usage import Usage

_ASKED = ("width", "height", "steps", "batch_size", "n_iter", "samples")
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Pictures(msgspec.Struct):
    parameters: Any = None
    artifacts: msgspec.Raw = NOT_THERE


class Pictures(OneObject[_Pictures]):
    """AUTOMATIC1111 repeats what it made in `parameters`, defaults filled in; Stability's version 1 lists artifacts.

    AUTOMATIC1111's `images` may hold one more, a grid of all.
    """

    shape = _Pictures

    def take(self, answer: _Pictures, found: Found) -> None:
        if isinstance(told := answer.parameters, dict):
            found.raw_usage = numbers({name: told[name] for name in _ASKED if name in told})
            found.count("output_images", (count(told.get("batch_size")) or 1) * (count(told.get("n_iter")) or 1))
            found.variant = variant(picture_size(told.get("width"), told.get("height")), None, told.get("steps"))
        if answer.artifacts:
            found.count("output_images", len(_decode_list(answer.artifacts)))

    def usage(self, found: Found) -> Usage | None:
        return found.with_counted(None)


class _Picture(Pictures):
    """The answer is one picture: what was asked for is what is counted."""

    reads_body = False


class PictureRequest(RequestMeaning):
    """How many pictures, of what size, in how many steps; one where nothing is said."""

    members = ("model", *_ASKED)

    def read(self, members: dict[str, Any], operation: Operation, *, whole: bool) -> RequestFacts:  # noqa: ARG002 - pictures are not streamed
        many = 1
        for name in ("batch_size", "n_iter", "samples"):
            many *= count(members.get(name)) or 1
        size = picture_size(members.get("width"), members.get("height"))
        return RequestFacts(
            word(members.get("model")) or operation.model,
            streamed=False,
            counts=Usage(output_images=many),
            variant=variant(size, None, members.get("steps")),
        )


class _Looked(msgspec.Struct):
    outputs: Any = None
    status: Any = None


_decode_history = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_looked = msgspec.json.Decoder(_Looked).decode


class _Queued(msgspec.Struct):
    prompt_id: Any = None
    error: Any = None


class ComfyUI(OneObject[_Queued]):
    """A prompt is queued by one call; its history, which others ask for, lists the pictures it made."""

    shape = _Queued

    def read(self, text: bytes, found: Found) -> bool:
        if not super().read(text, found):
            return False
        if found.response_id is None:
            try:
                self._read_history(text, found)
            except (msgspec.DecodeError, RecursionError, ValueError):
                return False
        return True

    def take(self, answer: _Queued, found: Found) -> None:
        found.response_id = word(answer.prompt_id)
        found.failed = found.failed or bool(answer.error)

    def _read_history(self, text: bytes, found: Found) -> None:
        found.pending = found.once = True
        for prompt_id, told in _decode_history(text).items():
            looked = _decode_looked(told)
            if isinstance(looked.outputs, dict) and isinstance(looked.status, dict) and looked.status.get("completed"):
                found.response_id, found.pending = word(prompt_id), False
                found.count("output_images", sum(map(_saved, looked.outputs.values())))

    def usage(self, found: Found) -> Usage | None:
        return None if found.pending else found.with_counted(None)


def _saved(node: object) -> int:
    """The pictures of one node that were saved; others are previews."""
    images = node.get("images") if isinstance(node, dict) else None
    kept = images if isinstance(images, list) else []
    return sum(isinstance(image, dict) and image.get("type") != "temp" for image in kept)


_PICTURES, _PICTURE, _COMFY, _REQUEST = Pictures(), _Picture(), ComfyUI(), PictureRequest()
_UNSEEN = "by its documents, no recorded answer"

DIALECTS = (
    Dialect(
        name="sdapi.txt2img",
        operation_name="image_generation",
        routes=tuple(Route("POST", f"sdapi/v1/{verb}") for verb in ("txt2img", "img2img")),
        meaning=_PICTURES,
        request=_REQUEST,
        spoken_by="AUTOMATIC1111, Forge, SD.Next",
        also_counts="images by `parameters`; size and steps as the variant",
        gaps=f"{_UNSEEN}; upscaling",
    ),
    Dialect(
        name="comfyui.prompt",
        operation_name="image_generation",
        routes=(
            *(Route("POST", path, at="comfy") for path in ("prompt", "api/prompt")),
            *(Route("GET", path, at="comfy", looks=True) for path in ("history/*", "api/history/*")),
        ),
        meaning=_COMFY,
        spoken_by="ComfyUI",
        also_counts="images that were saved, once a prompt, when its history is asked for",
        gaps=f"{_UNSEEN}; a prompt nobody looks at stays unknown; size and steps",
    ),
    Dialect(
        name="stability.generation",
        operation_name="image_generation",
        routes=tuple(
            Route("POST", f"v1/generation/{{model}}/{verb}")
            for verb in ("text-to-image", "image-to-image", "image-to-image/upscale", "image-to-image/masking")
        ),
        meaning=_PICTURES,
        request=_REQUEST,
        spoken_by="Stability AI",
        also_counts="images by `artifacts`, or as asked for; size and steps as the variant",
        gaps=_UNSEEN,
    ),
    Dialect(
        name="stability.image",
        operation_name="image_generation",
        routes=(
            *(Route("POST", f"stable-image/{kind}/{{model}}") for kind in ("generate", "edit", "upscale", "control")),
        ),
        meaning=_PICTURE,
        request=_REQUEST,
        spoken_by="Stability AI",
        also_counts="one image a call",
        gaps=f"{_UNSEEN}; no answer tells a count, so the request's is taken",
    ),
)
