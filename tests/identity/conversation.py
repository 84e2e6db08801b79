"""Conversations from dice: `compose(seed, number)` gives the same one every time."""

from dataclasses import replace
from random import Random

from tests.identity.answering import write_answer
from tests.identity.asking import PLAIN_CALLS, let_wait, write_request
from tests.identity.exchange import Conversation, Exchange
from tests.identity.payloads import make_payload


def compose(seed: int, number: int) -> Conversation:
    """Up to five exchanges that follow each other on one client connection."""
    dice = Random(f"{seed} {number}")
    length = dice.choice((1, 1, 2, 3, 5))
    pipelined = length > 1 and dice.random() < 0.3
    exchanges = [
        _exchange(dice, f"{number + 1:016x}{place:016x}", lasting=pipelined and place < length - 1, waits=not pipelined)
        for place in range(length)
    ]
    return Conversation(seed, number, tuple(exchanges), pipelined)


def _exchange(dice: Random, trace_id: str, *, lasting: bool, waits: bool) -> Exchange:
    """`lasting`: neither end closes after it. `waits`: the client may wait for an answer before it has sent all."""
    payload = make_payload(dice) if dice.random() < 0.85 else None
    call = ("POST", payload.path) if payload else dice.choice(PLAIN_CALLS)
    request = write_request(dice, trace_id, payload, call, lasting=lasting)
    if waits:
        if dice.random() < (0.8 if request.expects else 0.08):
            request = let_wait(dice, request)
        elif dice.random() < 0.04:
            request = replace(request, half_closes=True, keeps=False)
    answer = write_answer(dice, request, payload, lasting=lasting)
    ran = payload is not None and answer.status < 300
    told = ran and answer.framing != "none"
    return Exchange(
        trace_id,
        request,
        answer,
        dialect=payload.dialect if payload else "unknown",
        model=payload.model if payload else None,
        tokens=payload.tokens if payload and told else None,
        failed=answer.status >= 400 or bool(payload and told and payload.failed),
    )
