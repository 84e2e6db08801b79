"""Meanings of answers that are one object: decoding, and bodies of which only the ends were kept."""

from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from metering.core.dialects.found import Found, Meaning
from metering.core.dialects.framing import Stream

Shape = TypeVar("Shape", bound=msgspec.Struct)
NOT_THERE = msgspec.Raw(b"")


class OneObject(Meaning, Generic[Shape]):
    """A subclass names its `shape`, a struct of optional members, and takes what stands in one.

    Members of type `Raw` are too large to be looked for in a body that was cut.
    """

    shape: ClassVar[type[msgspec.Struct]]
    _decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __init_subclass__(cls) -> None:
        cls._decoder = msgspec.json.Decoder(cls.shape)
        cls.members = tuple(field.name for field in msgspec.structs.fields(cls.shape) if field.type is Any)

    def read(self, text: bytes, found: Found) -> bool:
        try:
            self.take(self._decoder.decode(text), found)
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False
        return True

    def read_members(self, members: dict[str, Any], found: Found) -> None:
        self.take(self.shape(**members), found)  # type: ignore[arg-type]  # a subclass's shape is its Shape

    def read_stream(self, stream: Stream, found: Found) -> bool:  # noqa: ARG002 - most never stream
        return False

    @abstractmethod
    def take(self, answer: Shape, found: Found) -> None:
        """Take what stands in an answer, or in the members of it that were kept."""
