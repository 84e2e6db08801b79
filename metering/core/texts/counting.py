"""Tokens of what was found: the texts' own, times the family's factor, and what stands around them."""

import re
from collections.abc import Callable

import msgspec

from metering.core.texts.families import Family
from metering.core.texts.media import image_size, sound_seconds
from metering.core.texts.rows import Kind, Texts
from metering.core.texts.tools import as_json, as_typescript

_MEMBER = re.compile(r'"\s*:')
Count = Callable[[str], int]


class Written(msgspec.Struct, frozen=True):
    """Tokens of an answer; `reasoning` is a part of `tokens`."""

    tokens: int
    reasoning: int


class Read(msgspec.Struct, frozen=True):
    """Tokens of a request; `images` and `sound` are parts of `tokens`."""

    tokens: int
    images: int = 0
    sound: int = 0


def count_written(
    texts: Texts, family: Family, count: Count, *, responses: bool = False, schema: bool = False
) -> Written:
    """What a model wrote, in the responses dialect or another, bound by a schema or not.

    Summaries of its thoughts are another model's words, and are not counted.
    """
    thought = _scale(sum(map(count, texts.of(Kind.REASONING))), family)
    said = _scale(sum(map(count, texts.of(Kind.TEXT, Kind.CALL, Kind.ARGUMENTS))), family)
    calls = len(texts.of(Kind.CALL))
    around = calls * (family.calls if calls > 1 else family.call)
    around += family.member * sum(len(_MEMBER.findall(text)) for text in texts.of(Kind.ARGUMENTS))
    around += family.thought if thought else 0
    if texts.of(Kind.TEXT):
        around += family.answer + responses * family.response + schema * family.schema
    return Written(max(0, thought + said + around), thought)


def count_read(texts: Texts, family: Family, count: Count) -> Read | None:
    """What a model was given to read; None if there is something in it that can't be counted."""
    images, sound = _images(texts, family), _sound(texts, family)
    if images is None or sound is None or texts.objects(Kind.DOCUMENT):
        return None
    said = sum(map(count, texts.of(Kind.TEXT, Kind.CALL, Kind.ARGUMENTS, Kind.RESULT)))
    said += sum(map(count, texts.roles))
    if tools := texts.objects(Kind.TOOL):
        said += count(as_typescript(tools) if family.typescript else as_json(tools))
    if schemas := texts.schemas():
        said += count(as_json(schemas))
    around = texts.messages * family.message + (family.request if texts.messages else 0)
    around += family.tools + family.tool * len(tools) if tools else 0
    ids = sum(map(_ids, texts.objects(Kind.IDS)))
    return Read(_scale(said, family) + around + ids + images + sound, images, sound)


def _scale(tokens: int, family: Family) -> int:
    return (tokens * family.permille + 500) // 1000


def _images(texts: Texts, family: Family) -> int | None:
    sizes = [image_size(image) for image in texts.objects(Kind.IMAGE)]
    return None if None in sizes else sum(family.image(*size) for size in sizes if size)


def _sound(texts: Texts, family: Family) -> int | None:
    seconds = [sound_seconds(sound) for sound in texts.objects(Kind.AUDIO)]
    return None if None in seconds else sum(round(each * family.sound) for each in seconds if each)


def _ids(value: object) -> int:
    return sum(map(_ids, value)) if isinstance(value, list) else 1
