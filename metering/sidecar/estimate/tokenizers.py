"""Which tokenizer counts for which model and route."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace

from metering.core.texts.families import Family, family_of
from metering.errors import EstimateError
from metering.sidecar.config import SidecarConfig
from metering.sidecar.estimate.local_server import LocalServer
from metering.sidecar.estimate.vocabularies import Tiktoken


class Counter(Protocol):
    """Counts for one model."""

    name: str  # with its version, as it stands on a row
    family: Family

    def count(self, text: str) -> int:
        """How many of the tokenizer's own tokens `text` is: before `family.permille`. `EstimateError`: it can't."""

    def count_request(self, request: Any) -> int | None:
        """How many tokens the whole request is, where the model's own server says so."""


class VocabularyCounter:
    """By one of tiktoken's vocabularies: the model's own, or the nearest."""

    def __init__(self, vocabulary: Tiktoken, family: Family) -> None:
        self.name = vocabulary.name + family.factor
        self.family = family
        self.count = vocabulary.count

    def count_request(self, request: Any) -> int | None:  # noqa: ARG002
        """It knows texts only."""
        return None


class FileCounter:
    """By Hugging Face's `tokenizers`, from a model's own tokenizer.json."""

    def __init__(self, path: Path, family: Family) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra that few install

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower type
            raise EstimateError(f"{path} can't be read as a tokenizer.json") from error
        self.name = f"tokenizers {version('tokenizers')} {path.parent.name}/{path.name}"
        self.family = replace(family, permille=1000, exact=True)

    def count(self, text: str) -> int:
        """As `Counter.count`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def count_request(self, request: Any) -> int | None:  # noqa: ARG002
        """It knows texts only."""
        return None


class Tokenizers:
    """All of them, each loaded once."""

    def __init__(self, config: SidecarConfig) -> None:
        self._files: Mapping[str, Path] = config.estimate.tokenizers
        self._servers = {
            route.name: LocalServer(route.upstream, route.tokenize, route.ca_file)
            for route in config.routes
            if route.tokenize != "off"
        }
        self._vocabularies: dict[str, Tiktoken] = {}
        self._by_file: dict[Path, FileCounter] = {}

    def of(self, model: str, route: str) -> Counter:
        """What counts for `model`: the route's own server, a configured file, or a vocabulary. `EstimateError`."""
        family = family_of(model)
        if (server := self._servers.get(route)) is not None:
            return server.counter(model, family)
        path = next((path for pattern, path in self._files.items() if fnmatchcase(model, pattern)), None)
        if path is None:
            name = family.vocabulary
            return VocabularyCounter(self._vocabularies.setdefault(name, Tiktoken(name)), family)
        if path not in self._by_file:
            self._by_file[path] = FileCounter(path, family)
        return self._by_file[path]
