"""Model → how its tokens are counted: a vocabulary, a factor where that one is only near, and what is around texts.

Vocabularies of other vendors are not public, or not small. Their models are counted with tiktoken's, times a factor
that `python -m benchmarks.estimates --fit` finds on one half of the recordings; docs/estimates.md shows what is left of
error on the other half.
"""

import re
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from metering.core.texts.media import ImageRule, area, gemini_tiles, patches, tiles


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Models whose tokens are counted alike. All but `permille` and `sound` are tokens around something."""

    name: str
    models: str  # a regular expression, looked for in the model's name in lower case
    vocabulary: str = "o200k_base"
    permille: int = 1000  # tokens of theirs for 1000 of the vocabulary's
    answer: int = 0  # the text of an answer
    response: int = 0  # more of it in the responses dialect
    schema: int = 0  # an answer that follows a JSON schema
    thought: int = 0  # reasoning that is shown
    call: int = 12  # a call of a tool, when there is one
    calls: int = 12  # each, when there are several
    member: int = 0  # each member of a call's arguments
    message: int = 4  # each message that is read
    request: int = 3  # all of them
    tools: int = 0  # what is said about tools, if there are any
    tool: int = 0  # each of them
    typescript: bool = False  # how tools are shown
    image: ImageRule = area
    sound: int = 10  # tokens a second
    rounds_reasoning: bool = False  # reasoning is reported in steps of 64
    exact: bool = False  # the vocabulary is the models' own

    @property
    def factor(self) -> str:
        """How its name stands behind a tokenizer's: nothing if it is the model's own."""
        return "" if self.exact else f" x{self.permille / 1000:.2f}"


# What is around messages and answers of OpenAI's models is as they lay it out. The rest was fitted, but for a few
# members set by hand where the fitted half shows one kind of call only: Cohere's answers and calls, Mistral's messages.
FAMILIES = (
    Family(
        name="gpt-oss",
        models=r"gpt-oss",
        vocabulary="o200k_harmony",
        exact=True,
        answer=4,
        response=-1,
        thought=6,
        call=4,
        member=7,
        message=10,
        request=56,
        typescript=True,
    ),
    Family(
        name="gpt-5.2 and later",
        models=r"gpt-(5\.|5-)[2-9](?!\d)|gpt-[6-9]",
        exact=True,
        answer=4,
        schema=4,
        call=11,
        message=3,
        request=2,
        tools=15,
        typescript=True,
    ),
    Family(
        name="gpt-5, o-series",
        models=r"gpt-5|(^|[/._])o[134](-|$)",
        exact=True,
        answer=9,
        response=-3,
        call=13,
        message=3,
        request=2,
        tools=15,
        typescript=True,
        rounds_reasoning=True,
    ),
    Family(
        name="gpt-4o, gpt-4.1",
        models=r"gpt-4o|gpt-4\.[15]|gpt-audio|computer-use",
        exact=True,
        response=1,
        call=7,
        calls=16,
        message=3,
        tools=5,
        typescript=True,
    ),
    Family(
        name="gpt-4, gpt-3.5",
        models=r"gpt-4|gpt-3\.?5|text-embedding|babbage|davinci",
        vocabulary="cl100k_base",
        exact=True,
        call=7,
        calls=16,
        message=3,
        typescript=True,
    ),
    # no more than a few recordings show tools: what Claude 4 is told about them, times the factor
    Family(
        name="claude, from 4.7",
        models=r"claude.*?(opus-4[-.][7-9]|opus-[5-9]|sonnet-[5-9]|haiku-[5-9])",
        permille=1370,
        call=34,
        member=4,
        message=3,
        request=0,
        tools=466,
    ),
    Family(name="claude 2", models=r"claude-(v?2|instant)"),
    Family(
        name="claude 3 and 4",
        models=r"claude",
        permille=1080,
        answer=4,
        thought=11,
        call=34,
        member=4,
        message=5,
        request=0,
        tools=340,
    ),
    Family(name="gemini 3", models=r"gemini-3", permille=1040, call=-1, member=8, request=0, sound=32),
    Family(name="gemini", models=r"gemini", permille=1050, call=-2, message=0, request=0, sound=32),
    Family(name="gemma", models=r"gemma", permille=1120, message=7, request=0),
    Family(
        name="mistral",
        models=r"mi[sn]i?s?tral|mixtral|magistral|pixtral|voxtral|codestral|devstral",
        permille=1020,
        answer=1,
        message=3,
        request=1,
    ),
    Family(name="llama", models=r"llama", vocabulary="cl100k_base", answer=1, message=0, request=34),
    Family(
        name="qwen",
        models=r"qwen|qwq",
        vocabulary="cl100k_base",
        permille=980,
        thought=14,
        call=2,
        member=3,
        message=8,
        request=1,
        tools=150,
    ),
    Family(name="deepseek", models=r"deepseek", answer=1, call=24, member=11, message=2, request=0, tools=305),
    Family(
        name="grok",
        models=r"grok",
        permille=1010,
        response=4,
        call=2,
        member=2,
        message=0,
        request=0,
        tools=295,
    ),
    Family(name="glm", models=r"glm", permille=1030, answer=1, message=9, request=0, tools=130, tool=10),
    Family(name="kimi", models=r"kimi|moonshot", permille=900, answer=2, message=5, request=0, tools=55),
    Family(name="cohere, until 2023", models=r"command(-light|-nightly)?$"),
    Family(
        name="cohere",
        models=r"command|cohere|c4ai|embed-",
        permille=1040,
        answer=2,
        call=30,
        calls=22,
        message=10,
        request=490,
        tools=325,
    ),
    Family(name="nova", models=r"nova", permille=920, answer=3, member=7, message=0, request=0, tools=365, tool=4),
    Family(
        name="palmyra",
        models=r"palmyra",
        vocabulary="cl100k_base",
        permille=950,
        answer=2,
        message=11,
        request=19,
    ),
)
OTHER = Family(name="other", models="", permille=1100, answer=1, message=1, request=0)
# The rules for images, by model; the others are counted as Anthropic does.
IMAGES: tuple[tuple[str, ImageRule], ...] = (
    (r"gpt-4o-mini", tiles(2833, 5667)),
    (r"gpt-4\.1-mini|gpt-5-mini", patches(162)),
    (r"gpt-4\.1-nano|gpt-5-nano", patches(246)),
    (r"o4-mini", patches(172)),
    (r"(^|[/._])o[13](-|$)", tiles(75, 150)),
    (r"gpt-[5-9]", tiles(70, 140)),
    (r"gpt-4", tiles(85, 170)),
    (r"gemini|gemma", gemini_tiles),
)
_FAMILIES = [(re.compile(family.models), family) for family in FAMILIES]
_IMAGES = [(re.compile(models), rule) for models, rule in IMAGES]


@lru_cache(maxsize=512)
def family_of(model: str) -> Family:
    """The family of a model, by its name; `OTHER` if none is known."""
    model = model.lower()
    family = next((family for pattern, family in _FAMILIES if pattern.search(model)), OTHER)
    rule = next((rule for pattern, rule in _IMAGES if pattern.search(model)), family.image)
    return replace(family, image=rule)
