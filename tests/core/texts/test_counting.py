"""Counting is arithmetic over texts: checked with a tokenizer that counts words."""

import base64
from typing import Any

import pytest
from msgspec.structs import replace

from metering.core.texts import Texts, read_texts, written_texts
from metering.core.texts.counting import Read, count_read, count_written
from metering.core.texts.families import FAMILIES, IMAGES, OTHER, Family, family_of
from metering.core.texts.media import area, gemini_tiles, image_size, patches, sound_seconds, tiles
from metering.core.texts.tools import as_typescript

PLAIN = Family(name="plain", models="", call=0, calls=0, message=0, request=0)


def words(text: str) -> int:
    return len(text.split())


def written(family: Family, **options: bool) -> int:
    message = {"content": "one two three", "reasoning": "four five", "tool_calls": [
        {"function": {"name": "look", "arguments": '{"at": 1, "to": 2}'}}]}  # fmt: skip
    return count_written(written_texts([{"choices": [{"message": message}]}]), family, words, **options).tokens


def test_what_stands_around_an_answer() -> None:
    assert written(PLAIN) == 3 + 2 + 1 + 4
    assert written(replace(PLAIN, answer=5)) - written(PLAIN) == 5
    assert written(replace(PLAIN, response=2), responses=True) - written(PLAIN) == 2
    assert written(replace(PLAIN, schema=4), schema=True) - written(PLAIN) == 4
    assert written(replace(PLAIN, thought=3)) - written(PLAIN) == 3
    assert written(replace(PLAIN, call=7, calls=99)) - written(PLAIN) == 7
    assert written(replace(PLAIN, member=2)) - written(PLAIN) == 2 * 2
    assert written(replace(PLAIN, permille=2000)) == 2 * written(PLAIN)


def test_several_calls_are_wrapped_otherwise() -> None:
    calls = [{"function": {"name": name, "arguments": ""}} for name in ("look", "listen")]
    texts = written_texts([{"choices": [{"message": {"tool_calls": calls}}]}])
    assert count_written(texts, replace(PLAIN, call=7, calls=16), words).tokens == 2 + 2 * 16


def test_a_count_is_never_less_than_nothing() -> None:
    texts = written_texts([{"content": [{"name": "look"}]}])
    assert count_written(texts, replace(PLAIN, call=-8), words).tokens == 0


def read(request: Any, family: Family = PLAIN) -> Read | None:
    return count_read(read_texts(request), family, words)


def test_what_stands_around_a_request() -> None:
    request = {"messages": [{"role": "user", "content": "one two"}, {"role": "user", "content": "three"}]}
    assert read(request) == Read(3 + 2)  # each role is a word
    assert read(request, replace(PLAIN, message=10, request=100)) == Read(5 + 20 + 100)
    assert read({"prompt": "one two"}, replace(PLAIN, message=10, request=100)) == Read(2)
    assert read({"input": [[1, 2], [3]]}) == Read(3)


def test_tools_and_schemas_are_read_too() -> None:
    request: dict[str, Any] = {"messages": [], "tools": [{"name": "look"}, {"name": "listen"}]}
    with_tools, without = read(request, replace(PLAIN, tools=50, tool=3)), read(request)
    assert with_tools
    assert without
    assert with_tools.tokens == without.tokens + 50 + 2 * 3
    assert read({"messages": [], "text": {"format": {"schema": {"type": "object"}}}}) == Read(1)


def test_documents_are_not_guessed() -> None:
    assert read({"previous_response_id": "r", "input": "go on"}) is None
    assert read({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:,nothing"}}]}]}) is None


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look around.",
            "parameters": {
                "type": "object",
                "required": ["at"],
                "properties": {
                    "at": {"type": "string", "description": "where", "enum": ["up", "down"]},
                    "times": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "how": {"type": "object", "properties": {"fast": {"type": "boolean"}}},
                    "any": {},
                },
            },
        },
    },
    {"name": "stop"},
    {"type": "web_search"},
]


def test_tools_as_openai_declares_them() -> None:
    assert as_typescript(TOOLS) == (
        'namespace functions {\n\n// Look around.\ntype look = (_: {\n// where\nat: "up" | "down",\n'
        "times?: number,\ntags?: string[],\nhow?: {\n  fast?: boolean,\n},\nany?: any,\n}) => any;\n\n"
        "type stop = () => any;\n\n"
        '} // namespace functions\n{"type":"web_search"}'
    )  # fmt: skip


def test_a_schema_without_a_bottom_ends() -> None:
    deep: dict[str, Any] = {"type": "object", "properties": {}}
    deep["properties"]["again"] = deep
    assert "again" in as_typescript([{"name": "look", "parameters": deep}])


# ── pictures and sound ────────────────────────────────────────────────────────────────────────────────


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + width.to_bytes(4) + height.to_bytes(4)
    return "data:image/png;base64," + base64.b64encode(head + bytes(20)).decode()


def encoded(head: bytes) -> str:
    return base64.b64encode(head).decode()


VP8X = b"RIFF" + bytes(4) + b"WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
VP8L = b"RIFF" + bytes(4) + b"WEBPVP8L" + bytes(4) + b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")
VP8 = b"RIFF" + bytes(4) + b"WEBPVP8 " + bytes(10) + (640).to_bytes(2, "little") + (480).to_bytes(2, "little")
JPEG = b"\xff\xd8\xff\xe0" + bytes(20) + b"\xff\xc0\x00\x11\x08" + (480).to_bytes(2) + (640).to_bytes(2)
GIF = b"GIF89a" + (640).to_bytes(2, "little") + (480).to_bytes(2, "little")


@pytest.mark.parametrize("image", [
    png(640, 480),
    {"url": png(640, 480)},
    {"type": "base64", "media_type": "image/png", "data": png(640, 480).partition(",")[2]},
    {"bytes": encoded(JPEG)},
    *map(encoded, (JPEG, GIF, VP8, VP8L, VP8X)),
])  # fmt: skip
def test_the_head_says_the_size(image: Any) -> None:
    assert image_size(image) == ((640, 480), False)


def test_sizes_that_nobody_says() -> None:
    assert image_size({"url": "https://example.com/a.png", "detail": "low"}) == ((1024, 1024), True)
    for nothing in (
        "data:,",
        "!!!!",
        "",
        None,
        7,
        {},
        {"url": None},
        encoded(b"RIFF0000WEBPVP9 " + bytes(20)),
        png(0, 7),
    ):
        assert image_size(nothing) is None


@pytest.mark.parametrize(("rule", "size", "low", "tokens"), [
    (tiles(85, 170), (1024, 1024), False, 765),  # OpenAI's own example
    (tiles(85, 170), (2048, 4096), False, 1105),  # and its other one
    (tiles(85, 170), (4096, 8192), True, 85),
    (patches(162), (1024, 1024), False, 1659),
    (patches(100), (8000, 8000), False, 1536),
    (area, (1092, 1092), False, 1590),  # Anthropic's own example
    (area, (1, 1), False, 1),
    (gemini_tiles, (384, 384), False, 258),
    (gemini_tiles, (1536, 768), False, 516),
    (gemini_tiles, (4000, 4000), True, 258),
])  # fmt: skip
def test_published_rules(rule: Any, size: tuple[int, int], low: bool, tokens: int) -> None:
    assert rule(size, low) == tokens


def test_sound_by_the_second() -> None:
    wav = b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(12) + (32_000).to_bytes(4, "little") + bytes(64_000)
    assert sound_seconds({"data": encoded(wav), "format": "wav"}) == pytest.approx(2, abs=0.01)
    assert sound_seconds({"data": encoded(bytes(48_000)), "format": "mp3"}) == pytest.approx(3, abs=0.01)
    assert sound_seconds({"id": "audio_1"}) is None


def test_pictures_and_sound_have_their_own_counts() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": png(1024, 1024)}},
        {"type": "input_audio", "input_audio": {"data": encoded(bytes(32_000)), "format": "mp3"}},
    ]
    request = {"messages": [{"role": "user", "content": parts}]}
    assert count_read(read_texts(request), replace(PLAIN, image=tiles(85, 170)), words) == Read(1 + 765 + 20, 765, 20)


# ── which model is of which family ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("model", "name"), [
    ("gpt-4o-mini-2024-07-18", "gpt-4o, gpt-4.1"),
    ("openai/gpt-4.1", "gpt-4o, gpt-4.1"),
    ("gpt-5-2025-08-07", "gpt-5, o-series"),
    ("gpt-5-nano", "gpt-5, o-series"),
    ("o4-mini-2025-04-16", "gpt-5, o-series"),
    ("gpt-5.4-nano-2026-03-17", "gpt-5.2 and later"),
    ("gpt-3.5-turbo-0125", "gpt-4, gpt-3.5"),
    ("gpt-35-turbo", "gpt-4, gpt-3.5"),
    ("text-embedding-3-small", "gpt-4, gpt-3.5"),
    ("openai.gpt-oss-120b-1:0", "gpt-oss"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude 3 and 4"),
    ("claude-opus-4-7", "claude, from 4.7"),
    ("anthropic.claude-v2", "claude 2"),
    ("gemini-2.5-flash", "gemini"),
    ("meta-llama/Llama-3.3-70B-Instruct", "llama"),
    ("palmyra-x4", "palmyra"),
    ("my-own-model", "other"),
    ("", "other"),
])  # fmt: skip
def test_families_by_name(model: str, name: str) -> None:
    assert family_of(model).name == name


def test_every_family_and_rule_is_reached() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert family_of("gpt-4o").image((1024, 1024), False) == 765
    assert family_of("gpt-4.1-mini").image((1024, 1024), False) == 1659
    assert family_of("claude-sonnet-4-5").image((1092, 1092), False) == 1590
    assert len(IMAGES) > 5
    assert OTHER.factor == " x1.10"
    assert family_of("gpt-4o").factor == ""


def test_nothing_was_written() -> None:
    assert count_written(Texts(), OTHER, words).tokens == 0
