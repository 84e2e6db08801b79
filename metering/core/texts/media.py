"""What images and sound cost by the providers' published rules; no picture is decoded, its head says its size.

OpenAI: https://platform.openai.com/docs/guides/images-vision (tiles of 512, or patches of 32 pixels). Anthropic:
https://docs.claude.com/en/docs/build-with-claude/vision (width × height / 750). Gemini:
https://ai.google.dev/gemini-api/docs/tokens (258 a tile of 768 pixels; 32 a second of sound).
"""

import base64
import binascii
import re
from collections.abc import Callable
from math import ceil
from typing import Any

HEAD_CHARACTERS = 128 * 1024  # of base64: a JPEG's size may stand behind a preview
UNKNOWN_SIZE = (1024, 1024)  # of an image that is named by a URL
SOUND_BYTES_A_SECOND = 16_000  # of an MP3 at 128 kbit/s, where no header says it
_JPEG_SIZE = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf].{3}(.{2})(.{2})", re.DOTALL)

Size = tuple[int, int]
ImageRule = Callable[[Size, bool], int]  # size in pixels, and whether little detail is asked for → tokens


def tiles(base: int, tile: int) -> ImageRule:
    """OpenAI: fitted into 2048 × 2048, its short side brought down to 768, cut into tiles of 512."""

    def rule(size: Size, low: bool) -> int:  # noqa: FBT001 - it is the request's word
        if low:
            return base
        width, height = _fit(size, 2048)
        shrink = min(1.0, 768 / min(width, height))
        return base + tile * ceil(width * shrink / 512) * ceil(height * shrink / 512)

    return rule


def patches(percent: int, most: int = 1536) -> ImageRule:
    """OpenAI's small models: patches of 32 pixels, `most` at most, each `percent` of a token."""

    def rule(size: Size, low: bool) -> int:  # noqa: ARG001, FBT001
        width, height = size
        found = min(most, ceil(width / 32) * ceil(height / 32))
        return ceil(found * percent / 100)

    return rule


def area(size: Size, low: bool) -> int:  # noqa: ARG001, FBT001
    """Anthropic: its area over 750, the long side brought down to 1568."""
    width, height = _fit(size, 1568)
    return max(1, round(width * height / 750))


def gemini_tiles(size: Size, low: bool) -> int:  # noqa: FBT001
    """Google: 258 up to 384 × 384, else for each tile of 768."""
    width, height = size
    if low or max(size) <= 384:
        return 258
    return 258 * ceil(width / 768) * ceil(height / 768)


def image_size(image: Any) -> tuple[Size, bool] | None:
    """The size of an image as a request gives it, and whether it asks for little detail; None if it can't be said.

    `image` is a URL, a data URL, base64, or an object that holds one of them.
    """
    low = isinstance(image, dict) and image.get("detail") == "low"
    text = _text_of(image)
    if text is None:
        return None
    if text.startswith(("http://", "https://", "gs://")):
        return UNKNOWN_SIZE, low
    size = _size(_decode(text))
    return None if size is None else (size, low)


def sound_seconds(sound: Any) -> float | None:
    """How long a sound in a request lasts; None if it holds none."""
    text = _text_of(sound)
    if text is None:
        return None
    text = text.partition(";base64,")[2] or text
    length = len(text) * 3 // 4
    head = _decode(text)
    rate = int.from_bytes(head[28:32], "little") if head.startswith(b"RIFF") else 0
    return length / (rate or SOUND_BYTES_A_SECOND)


def _fit(size: Size, most: int) -> tuple[float, float]:
    shrink = min(1.0, most / max(size))
    return size[0] * shrink, size[1] * shrink


def _text_of(holder: Any) -> str | None:
    """The string inside: `{"url": …}`, `{"source": {"data": …}}`, `{"data": …}`, `{"source": {"bytes": …}}`."""
    for _ in range(3):
        if isinstance(holder, str):
            return holder
        if not isinstance(holder, dict):
            return None
        holder = next((holder[name] for name in ("url", "source", "data", "bytes") if holder.get(name)), None)
    return holder if isinstance(holder, str) else None


def _decode(text: str) -> bytes:
    text = (text.partition(";base64,")[2] or text)[:HEAD_CHARACTERS]
    try:
        return base64.b64decode(text[: len(text) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return b""


def _size(head: bytes) -> Size | None:
    found: Size | None = None
    if head.startswith(b"\x89PNG"):
        found = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    elif head.startswith(b"GIF8"):
        found = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head.startswith(b"\xff\xd8") and (frame := _JPEG_SIZE.search(head)):
        found = int.from_bytes(frame[2]), int.from_bytes(frame[1])
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp_size(head)
    return found if found and min(found) > 0 else None


def _webp_size(head: bytes) -> Size | None:
    """https://developers.google.com/speed/webp/docs/riff_container"""
    match head[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
