"""Gateways of others beside the sidecar, where they are installed: `--peers-dir` names the folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sidecar.contestants import Contestant, Site

Open = Callable[[Site, Path], Iterator[Contestant]]


def find_peers(folder: Path) -> dict[str, Path]:
    """Name → what starts it, of those that are there."""
    return {}


@contextmanager
def peer(name: str, program: Path, site: Site) -> Iterator[Contestant]:
    """One of them."""
    raise NotImplementedError
    yield
