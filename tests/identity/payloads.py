"""What clients ask and models answer in every dialect that is read, with usage known beforehand. Pure, from dice."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

WORDS = (
    "hello",
    "Grüße",
    "🙂",
    "",
    '"usage":{"prompt_tokens":1}',
    "data: [DONE]\n\n",
    "\r\n0\r\n\r\n",
    "a" * 300,
    "}\n{",
)
SSE, NDJSON, JSON = "text/event-stream", "application/x-ndjson", "application/json"


class Payload(NamedTuple):
    """A request's body, and an answer's body in the pieces a model server makes it of."""

    path: str
    dialect: str
    model: str
    request: bytes
    content_type: str
    pieces: tuple[bytes, ...]
    tokens: tuple[int, int] | None  # input and output tokens that the whole answer tells
    failed: bool = False  # the answer itself says that it failed


class Talk:
    """One answer being made up."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.model = dice.choice(("gpt-4o-mini", "claude-x", "llama3.2:3b", "models/ü"))
        self.input_tokens, self.output_tokens = dice.randint(1, 9999), dice.randint(1, 9999)
        self.separators = dice.choice(((",", ":"), (", ", ": ")))
        self.line_end = dice.choice(("\n", "\n", "\r\n"))

    def dump(self, value: Any) -> bytes:
        return json.dumps(value, separators=self.separators, ensure_ascii=self.input_tokens % 2 == 0).encode()

    def words(self) -> list[str]:
        return [self.dice.choice(WORDS) for _ in range(self.dice.choice((0, 1, 2, 5, 30)))]

    def ask(self, **said: Any) -> bytes:
        """A request's body; its prompt is sometimes long."""
        prompt = self.dice.choice(WORDS) * self.dice.choice((1, 1, 1, 30, 3000))
        return self.dump({"model": self.model, "prompt": prompt, **said})

    def event(self, value: Any, name: str = "") -> bytes:
        """One server-sent event."""
        lines = [*([f"event: {name}"] if name else []), "data: " + self.dump(value).decode(), "", ""]
        return self.line_end.join(lines).encode()

    @property
    def usage(self) -> dict[str, int]:
        """As OpenAI's chat tells it."""
        read, written = self.input_tokens, self.output_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    @property
    def parts(self) -> dict[str, int]:
        """As OpenAI's responses and Anthropic tell it."""
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}

    @property
    def tokens(self) -> tuple[int, int]:
        return self.input_tokens, self.output_tokens


def _chat(talk: Talk, kind: str, streamed: bool) -> Payload:
    path, dialect = f"/v1/{'chat/' if kind == 'chat' else ''}completions", f"openai.{kind}"
    told = talk.dice.random() < 0.8
    part = {"id": "c-1", "object": "chunk", "model": talk.model}
    if not streamed:
        body = {**part, "choices": [{"message": {"content": w}} for w in talk.words()], "usage": talk.usage}
        return Payload(path, dialect, talk.model, talk.ask(), JSON, (talk.dump(body),), talk.tokens)
    asked = {"stream": True, **({"stream_options": {"include_usage": True}} if told else {})}
    events = [talk.event({**part, "choices": [{"delta": {"content": word}}]}) for word in talk.words()]
    failed = talk.dice.random() < 0.1
    if failed:
        events.append(talk.event({"error": {"message": "overloaded", "type": "server_error"}}))
        return Payload(path, dialect, talk.model, talk.ask(**asked), SSE, tuple(events), None, failed=True)
    if told:
        events.append(talk.event({**part, "choices": [], "usage": talk.usage}))
    events.append(f"data: [DONE]{talk.line_end * 2}".encode())
    return Payload(path, dialect, talk.model, talk.ask(**asked), SSE, tuple(events), talk.tokens if told else None)


def _embeddings(talk: Talk) -> Payload:
    usage = {"prompt_tokens": talk.input_tokens, "total_tokens": talk.input_tokens}
    body = {"object": "list", "data": [{"embedding": [0.1] * 50}], "model": talk.model, "usage": usage}
    tokens = (talk.input_tokens, 0)
    return Payload("/v1/embeddings", "openai.embeddings", talk.model, talk.ask(), JSON, (talk.dump(body),), tokens)


def _responses(talk: Talk, streamed: bool) -> Payload:
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": talk.model, "usage": talk.parts}
    if not streamed:
        pieces, kind = [talk.dump(answer)], JSON
    else:
        begun = {**answer, "status": "in_progress", "usage": None}
        pieces = [talk.event({"type": "response.created", "response": begun}, "response.created")]
        for word in talk.words():
            pieces.append(
                talk.event({"type": "response.output_text.delta", "delta": word}, "response.output_text.delta")
            )
        pieces.append(talk.event({"type": "response.completed", "response": answer}, "response.completed"))
        kind = SSE
    asked = talk.ask(stream=True) if streamed else talk.ask()
    return Payload("/v1/responses", "openai.responses", talk.model, asked, kind, tuple(pieces), talk.tokens)


def _messages(talk: Talk, streamed: bool) -> Payload:
    message = {"id": "msg_1", "type": "message", "model": talk.model, "usage": talk.parts}
    if not streamed:
        pieces, kind = [talk.dump(message)], JSON
    else:
        begun = {**message, "usage": {"input_tokens": talk.input_tokens, "output_tokens": 1}}
        pieces = [talk.event({"type": "message_start", "message": begun}, "message_start")]
        for word in talk.words():
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            pieces.append(talk.event(delta, "content_block_delta"))
        end = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": talk.output_tokens}}
        pieces += [talk.event(end, "message_delta"), talk.event({"type": "message_stop"}, "message_stop")]
        kind = SSE
    asked = talk.ask(stream=True) if streamed else talk.ask()
    return Payload("/v1/messages", "anthropic.messages", talk.model, asked, kind, tuple(pieces), talk.tokens)


def _ollama(talk: Talk, word: str, streamed: bool) -> Payload:
    def lines() -> Iterator[dict[str, Any]]:
        for text in talk.words() if streamed else ():
            yield {"model": talk.model, "response": text, "done": False}
        counts = {"prompt_eval_count": talk.input_tokens, "eval_count": talk.output_tokens}
        yield {"model": talk.model, "response": "", "done": True, "done_reason": "stop", **counts}

    pieces = tuple(talk.dump(line) + b"\n" for line in lines())
    kind = NDJSON if streamed else JSON
    asked = talk.ask(stream=streamed)
    return Payload(f"/api/{word}", f"ollama.{word}", talk.model, asked, kind, pieces, talk.tokens)


def _embed(talk: Talk) -> Payload:
    body = {"model": talk.model, "embeddings": [[0.5] * 20], "prompt_eval_count": talk.input_tokens}
    tokens = (talk.input_tokens, 0)
    return Payload("/api/embed", "ollama.embed", talk.model, talk.ask(), JSON, (talk.dump(body),), tokens)


MAKERS: tuple[Callable[[Talk, bool], Payload], ...] = (
    lambda talk, streamed: _chat(talk, "chat", streamed),
    lambda talk, streamed: _chat(talk, "completions", streamed),
    lambda talk, _: _embeddings(talk),
    _responses,
    _messages,
    lambda talk, streamed: _ollama(talk, "chat", streamed),
    lambda talk, streamed: _ollama(talk, "generate", streamed),
    lambda talk, _: _embed(talk),
)


def make_payload(dice: Random) -> Payload:
    """One request and its answer, in any dialect."""
    return dice.choice(MAKERS)(Talk(dice), dice.random() < 0.6)
