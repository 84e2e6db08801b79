"""Where an upstream refused a request because usage was asked for: remembered for a while, so the next is not tried."""

from time import monotonic

REFUSED_SECONDS = 600.0
REFUSED_MAX = 512


class Refusals:
    """Upstreams by destination and path. Bounded: a path can hold an id."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, bytes], float] = {}  # in the order in which they are forgotten

    def add(self, destination: str, path: bytes) -> None:
        """It refused now."""
        self._until.pop((destination, path), None)
        if len(self._until) >= REFUSED_MAX:
            del self._until[next(iter(self._until))]
        self._until[destination, path] = monotonic() + REFUSED_SECONDS

    def holds(self, destination: str, path: bytes) -> bool:
        """Whether it refused lately."""
        until = self._until.get((destination, path))
        return until is not None and monotonic() < until
