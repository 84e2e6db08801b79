"""A head that came before, but for values that differ from one message to the next.

A client's next head mostly equals its last one, save for its length and its trace; an upstream's, save for date,
length, request id and what is left of a rate limit. Reading and deciding cost 36 µs a call in Python, comparing 2.
What stands between the values must be equal byte for byte, a value may only be made of printable ASCII, and the
headers that frame a message or that are read here never vary, but for the digits of a Content-Length. So whatever
llhttp and the checks found out about the first head holds for this one too.
"""

LENGTH, TRACE = b"content-length", b"traceparent"
# No body has a thousand terabytes; more digits overflow somebody's integers, and Python itself refuses 4,301.
LENGTH_DIGITS_MAX = 15
_PRINTABLE = bytes(range(0x20, 0x7F))
# Learning what varies costs 15 µs. Heads that are never alike pay for it that many times, then seldom.
_LEARNED_MAX, _LEARN_EACH = 16, 64
AT_FIRST = frozenset((LENGTH, TRACE))


class Recurring:
    """One head, as it comes and as it goes on: the same with other values in both."""

    __slots__ = (
        "_first", "_first_length", "_head", "_out", "_rest", "_varying", "learned", "length_at", "rewritten",
        "trace_at", "values",
    )  # fmt: skip

    def __init__(self, head: bytes, rewritten: bytes, varying: frozenset[bytes], learned: int = 0) -> None:
        self._head, self._varying, self.learned = head, varying, learned
        names, self.values, literals = _take_apart(head, varying)
        self._first, self._first_length = literals[0], len(literals[0])
        self._rest = [(literal, len(literal)) for literal in literals[1:]]
        self.length_at = names.index(LENGTH) if LENGTH in names else -1
        self.trace_at = names.index(TRACE) if TRACE in names else -1
        self.rewritten = rewritten
        names_out, values_out, out = _take_apart(rewritten, varying)
        same = (names_out, values_out) == (names, self.values) and names.count(TRACE) < 2
        # Literals and values in turn; nothing if a value does not go on as it comes, and then nothing matches.
        self._out = [b""] * (2 * len(out) - 1) if same else []
        if same:
            self._out[::2] = out

    def match(self, data: bytes) -> int:
        """Where this head ends in `data`, or 0 if `data` begins with another one; then `values` are the new ones."""
        if not data.startswith(self._first) or not self._out:
            return 0
        at = self._first_length
        values = []
        for literal, length in self._rest:
            end = data.find(b"\r", at)
            values.append(data[at:end])
            if not data.startswith(literal, end):
                return 0
            at = end + length
        if values != self.values:
            if b"".join(values).translate(None, _PRINTABLE):
                return 0
            if self.length_at >= 0:
                digits = values[self.length_at]
                if not digits.isdigit() or len(digits) > LENGTH_DIGITS_MAX:
                    return 0
            self.values = values
            out = self._out
            out[1::2] = values
            self.rewritten = b"".join(out)
        return at

    def follow(self, head: bytes, rewritten: bytes, fixed: frozenset[bytes]) -> "Recurring | None":
        """What to expect after `head`, which was read because it did not match: what differs from this one varies.

        `fixed` are the names whose values are read. None when too many heads in turn were like none before.
        """
        self.learned += 1
        if self.learned > _LEARNED_MAX and self.learned % _LEARN_EACH:
            return None
        varying = self._varying
        lines, former = head.split(b"\r\n"), self._head.split(b"\r\n")
        if len(lines) == len(former):
            differing = [line for line, old in zip(lines, former, strict=True) if line != old]
            varying = varying.union(line.partition(b":")[0].lower() for line in differing) - fixed
        return Recurring(head, rewritten, varying, self.learned)


def _take_apart(head: bytes, varying: frozenset[bytes]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Names (lower-case) and values of what varies, and what stands before, between and behind the values."""
    names, values, literals = [], [], []
    at = written = 0
    for number, line in enumerate(head[:-4].split(b"\r\n")):
        name, colon, value = line.partition(b": ")
        name = name.lower()
        ordinary = value.isdigit() if name == LENGTH else not value.translate(None, _PRINTABLE)
        if number and colon and name in varying and ordinary:
            end = at + len(line)
            names.append(name)
            values.append(value)
            literals.append(head[written : end - len(value)])
            written = end
        at += len(line) + 2
    return names, values, [*literals, head[written:]]
