"""A `Call`: one line of a trace, ready to be sent; and who plays which part where the trace doesn't say."""

import random
from collections.abc import Sequence

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a trace. Tokens are inclusive: `cached_tokens` are part of `input_tokens`."""

    at_ms: int  # since the trace began
    team: str  # "" = nobody's: no key and no header is sent
    project: str
    dialect: str  # openai.chat, openai.completions, openai.embeddings, …: as in `metering.core.dialects`
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    streamed: bool = False
    include_usage: bool = True  # of OpenAI streams: ask for the usage chunk
    fault: str = ""  # asked of the emulator
    leaves_early: bool = False  # the client hangs up after the first chunk


class Part(msgspec.Struct, frozen=True):
    """A dialect, the model it is spoken to, and whether the answer is streamed."""

    dialect: str
    model: str
    streamed: bool


# What a company's traffic looks like, roughly: two clouds, a local model, most of it streamed.
PARTS = (
    Part("openai.chat", "gpt-4o-mini", streamed=True),
    Part("openai.chat", "gpt-4o", streamed=False),
    Part("anthropic.messages", "claude-sonnet-4-5", streamed=True),
    Part("openai.responses", "gpt-4.1", streamed=True),
    Part("ollama.chat", "llama3.2:3b", streamed=True),
    Part("anthropic.messages", "claude-haiku-4-5", streamed=False),
    Part("openai.completions", "gpt-3.5-turbo-instruct", streamed=False),
    Part("ollama.generate", "qwen3:4b", streamed=False),
)


def parts_for(seed: int, count: int) -> Sequence[Part]:
    """`count` parts, the same ones for the same seed."""
    return random.Random(f"parts {seed}").choices(PARTS, k=count)


def teams_for(seed: int, count: int, names: Sequence[str]) -> Sequence[str]:
    """`count` team names; the first of `names` get the most calls, as in any company."""
    weights = [1 / (place + 1) for place in range(len(names))]
    return random.Random(f"teams {seed}").choices(names, weights, k=count)
