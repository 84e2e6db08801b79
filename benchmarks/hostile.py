"""Mutated hostile requests: whatever the relay would forward, two other parsers must read in the same way.

    python -m benchmarks.hostile --seed N --count M --output json|table [--quick]

Cases of the tests' corpus are changed in one to four places (bytes put in, over or taken out, lines of another case,
sizes changed) and read by the relay's head and chunk parsers as a connection would: head, body, next head. What
would go upstream is then read by h11 (strict, pure Python) and by llhttp (httptools), and must be the same requests
with the same bodies. A difference is printed with its seed and number; exit code 1.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from metering.sidecar.config import parse_config
from metering.sidecar.relay.admission import Admission, Admitted
from metering.sidecar.relay.chunks import BadChunk, ChunkedRequest
from metering.sidecar.relay.problems import Refusal
from metering.sidecar.relay.request_head import BLANK_LINE
from tests.sidecar.hostile.corpus import CASES
from tests.sidecar.hostile.oracles import ORACLES, Seen

COUNT, COUNT_QUICK = 500_000, 20_000
REQUESTS_MAX = 4
ROUTE = '[[route]]\npath = "/openai"\nupstream = "http://localhost:1"\nprovider = "openai"\n'
ACCEPTED = [case for case in CASES if not case.status]
BYTES = [bytes([byte]) for byte in b"\r\n\t\0 :,;+-_.0159afxAF\"'\\/%#?@\x0b\x7f\x80\xa0\xff"]
PHRASES = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\n ",
    b"\r\n\t",
    b": ",
    b"0\r\n\r\n",
    b"chunked",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"http://a",
    b"/openai/",
    b"/../",
    b"%2f",
    b"GET /openai/x HTTP/1.1\r\n",
    b"X-Metering-Key: a\r\n",
    b"5\r\nhello\r\n",
    b";a=b",
    b"0" * 20,
    b"f" * 16,
]


def mutate(dice: random.Random) -> bytes:
    """A case, mostly one that is accepted, with one to four changes, and another case behind it."""
    data = dice.choice(dice.choice((ACCEPTED, ACCEPTED, ACCEPTED, CASES))).raw[:4000]
    for _ in range(dice.choice((1, 1, 2, 4))):
        at, other = dice.randrange(len(data) + 1), dice.choice(CASES).raw[:4000]
        kind = dice.randrange(5)
        if kind == 0:
            data = data[:at] + dice.choice(BYTES) + data[at:]
        elif kind == 1:
            data = data[:at] + dice.choice(PHRASES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + dice.randint(1, 4) :]
        elif kind == 3:
            data = data[:at] + dice.choice(BYTES) + data[at + 1 :]
        else:
            lines = data.split(b"\r\n")
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(other.split(b"\r\n")))
            data = b"\r\n".join(lines)
    return data + dice.choice(CASES).raw[:4000]


class Reading:
    """What the relay makes of a connection's bytes: the requests it forwards, and the bytes that go upstream."""

    def __init__(self, admission: Admission, data: bytes) -> None:
        self.seen: list[Seen] = []
        self.wire = b""
        self.ending = "waits for more"
        last: Admitted | None = None
        for _ in range(REQUESTS_MAX):
            begin = 0
            while data.startswith(b"\r\n", begin):
                begin += 2
            end = data.find(BLANK_LINE, begin) + len(BLANK_LINE)
            if end < len(BLANK_LINE):
                return
            try:
                last = admission.admit(data[begin:end], last)
                if last.head.websocket:
                    self.ending = "tunnels"
                    return
                data = self._take_body(last, data[end:])
            except (Refusal, BadChunk) as error:
                self.ending = type(error).__name__
                return
            if not last.keep_alive:
                self.ending = "closes"
                return

    def _take_body(self, admitted: Admitted, data: bytes) -> bytes:
        """Note one request; what is behind it. Nothing if it did not end."""
        if admitted.head.chunked:
            chunks = ChunkedRequest(admitted.route.trusted)
            used, content = chunks.feed(data)
            ended = chunks.ended
        else:
            used, content = admitted.body_length, data[: admitted.body_length]
            ended = len(data) >= used
        if not ended:
            return b""
        self.wire += admitted.upstream_head + data[:used]
        self.seen.append(Seen(admitted.head.method, admitted.upstream_head.split(b" ", 2)[1], content))
        return data[used:]


def disagreement(reading: Reading) -> str | None:
    """Which oracle reads the forwarded bytes in another way, and how."""
    for oracle in ORACLES:
        try:
            seen = oracle().feed(reading.wire)
        except Exception as error:  # noqa: BLE001 - whatever an oracle says against what it is fed
            return f"{oracle.__name__}: {error!r}"
        if seen != reading.seen:
            return f"{oracle.__name__}: {seen}, meant: {reading.seen}"
    return None


def search(seed: int, count: int) -> dict[str, Any]:
    """Read `count` mutants. The mutant of a number does not depend on the ones before it."""
    admission = Admission(parse_config(ROUTE, Path(tempfile.gettempdir())))
    endings: Counter[str] = Counter()
    found = []
    begun = time.perf_counter()
    forwarded = 0
    for number in range(count):
        data = mutate(random.Random(f"{seed} {number}"))
        reading = Reading(admission, data)
        endings[reading.ending] += 1
        forwarded += len(reading.seen)
        if reading.seen and (what := disagreement(reading)) is not None:
            found.append({"seed": seed, "number": number, "data": repr(data), "what": what})
    seconds = round(time.perf_counter() - begun, 1)
    return {"seed": seed, "count": count, "requests_forwarded": forwarded, "endings": dict(endings),
            "disagreements": found, "seconds": seconds}  # fmt: skip


def main() -> int:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help=f"of mutants; {COUNT} by default")
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help=f"{COUNT_QUICK} mutants, under 50 s")
    options = parser.parse_args()
    figures = search(options.seed, options.count or (COUNT_QUICK if options.quick else COUNT))
    if options.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value}")
    return 1 if figures["disagreements"] else 0


if __name__ == "__main__":
    sys.exit(main())
