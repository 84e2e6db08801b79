"""Secrets and content that must be nowhere, the calls that carry them, and a search through all that is kept."""

import gzip
import json
from pathlib import Path

import psycopg
from psycopg import sql

from tests.sidecar.rig import Peer, chunk, json_answer, post

# One a place, so that a hit says what leaked.
CANARY = {
    place: f"CANARY{number:02}{place.replace('_', '')}9d41"
    for number, place in enumerate(
        ("authorization", "api_key_header", "api_key_query", "cookie", "unknown_key", "unknown_key_path", "prompt",
         "completion", "tool_arguments", "nested_usage", "error_text", "bad_head", "bad_length", "bad_chunk", "path",
         "bad_answer", "bad_answer_chunk", "huge", "host", "trailer")
    )
}  # fmt: skip
PLANTED = "PLANTEDmodel9d41"  # a model's name is kept: it shows that the search finds what is there
SECRETS = (
    f"Authorization: Bearer sk-{CANARY['authorization']}",
    f"x-api-key: {CANARY['api_key_header']}",
    f"Cookie: session={CANARY['cookie']}",
)
QUERY = f"?api-key={CANARY['api_key_query']}"
PROMPT = json.dumps(
    {
        "model": PLANTED,
        "messages": [{"role": "user", "content": CANARY["prompt"]}],
        "metadata": {"model": CANARY["prompt"]},
    }
).encode()
_ARGUMENTS = {"a": CANARY["tool_arguments"]}
_NESTED = {"usage": {"prompt_tokens": 1, "note": CANARY["nested_usage"]}, "model": CANARY["nested_usage"]}
_MESSAGE = {
    "content": CANARY["completion"],
    "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(_ARGUMENTS)}}],
    "input": _NESTED,
}
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "note": f"a long note: {CANARY['nested_usage']} " * 9}
COMPLETION = json.dumps({"id": "c-1", "model": "gpt-4o", "choices": [{"message": _MESSAGE}], "usage": _USAGE}).encode()
_OK = b"HTTP/1.1 200 OK\r\n"
_STREAM = _OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LONG = b'{"choices":[{"message":{"content":"' + CANARY["completion"].encode() * 20_000 + b'"}}],"model":"m"'

# By the header X-Answer, what the upstream answers.
ANSWERS: dict[bytes, bytes] = {
    b"fine": json_answer(COMPLETION),
    b"gzip": json_answer(gzip.compress(COMPLETION), "Content-Encoding: gzip"),
    b"no-gzip": json_answer(COMPLETION, "Content-Encoding: gzip"),
    b"stream": _STREAM + chunk(b"data: " + COMPLETION + b"\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    b"cut": _STREAM + chunk(b"data: " + COMPLETION[:-20]),
    b"long": json_answer(_LONG + b',"usage":{"prompt_tokens":1,"completion_tokens":1}}'),
    b"error": json_answer(json.dumps({"error": {"message": CANARY["error_text"]}}).encode(), status="500 Oh"),
    b"refused": json_answer(json.dumps({"error": CANARY["error_text"]}).encode(), status="401 Unauthorized"),
    b"bad-status": f"HTTP/1.1 {CANARY['bad_answer']}\r\n\r\n".encode(),
    b"bad-header": _OK + f"X: \0{CANARY['bad_answer']}\r\n\r\n".encode(),
    b"bad-length": _OK + f"Content-Length: {CANARY['bad_answer']}\r\n\r\n".encode(),
    b"bad-encoding": _OK + f"Transfer-Encoding: {CANARY['bad_answer']}\r\n\r\n".encode(),
    b"bad-chunk": _STREAM + f"{CANARY['bad_answer_chunk']}\r\n".encode(),
    b"silent": b"",
}


async def upstream(peer: Peer) -> None:
    """Answers as asked; leaves where an answer is cut; says nothing to `silent`."""
    while True:
        head, _ = await peer.read_request()
        word = head.partition(b"\r\nX-Answer: ")[2].partition(b"\r\n")[0]
        if word == b"silent":
            await peer.read_rest()
        await peer.send(ANSWERS.get(word, ANSWERS[b"fine"]))
        if word == b"cut":
            peer.close()
            return


def requests(secret: str) -> list[bytes]:
    """Calls that end well, and calls that end in every other way. `secret`: of a metering key that is known."""
    c = CANARY
    chat, key = "/openai/v1/chat/completions", f"x-metering-key: {secret}"
    close = ("Connection: close", *SECRETS)
    answers = [f"X-Answer: {name.decode()}" for name in ANSWERS if name != b"silent"]
    calls = [post(chat + QUERY, PROMPT, *close, key, answer) for answer in answers]
    calls += [post(f"{route}/v1/chat/completions{QUERY}", PROMPT, *close, key) for route in ("/dead", "/tls")]
    calls += [
        post(f"/k/{secret}{chat}{QUERY}", PROMPT, *close),
        post(f"/k/{c['unknown_key_path']}{chat}", PROMPT, *close),
        post(f"/k/{secret[:-1]}{chat}", PROMPT, *close),
        post(chat, PROMPT, *close, f"x-metering-key: {c['unknown_key']}"),
        post(f"/{c['path']}{QUERY}", PROMPT, *close),
        post(f"/openai/../{c['path']}", PROMPT, *close),
        post(chat, PROMPT, *close, f"X Y: {c['bad_head']}"),
        post(chat, PROMPT, *close, f"X: {c['bad_head']}\0"),
        post(chat, PROMPT, *close, f"Expect: {c['bad_head']}"),
        post(chat, PROMPT, *close, f"Transfer-Encoding: {c['bad_head']}"),
        post(chat, PROMPT, *close, f"X: {c['huge'] * 5000}"),
        post(chat, PROMPT, *close, f"Content-Length: {c['bad_length']}"),
        post(chat, PROMPT, *close).replace(b"Host: sidecar", f"Host: {c['host']}/".encode()),
        post(chat, b"", *close, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        + f"5\r\nhello\r\n{c['bad_chunk']}\r\n".encode(),
        post(chat, b"", *close, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        + f"0\r\nAuthorization: {c['trailer']}\r\n\r\n".encode(),
        f"{c['bad_head']} {chat}{QUERY} HTTP/1.1\r\n\r\n".encode(),
    ]
    return calls


def dump(database_url: str) -> bytes:
    """Every row of every table of ours, as text."""
    texts = []
    with psycopg.connect(database_url) as connection:
        names = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for schema, name in names:
            query = sql.SQL("SELECT row.*::text FROM {} row").format(sql.Identifier(schema, name))
            texts += [row[0] for row in connection.execute(query)]
    return "\n".join(texts).encode()


def read_files(folder: Path) -> bytes:
    """All files of a folder, names too."""
    return b"\n".join(str(path).encode() + path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def find(kept: dict[str, bytes], words: list[str]) -> set[tuple[str, str]]:
    """(place, word) of every word that was kept somewhere."""
    return {(place, word) for place, data in kept.items() for word in words if word.encode() in data}
