"""The callbacks of an httptools parser, as few as can be."""


class MessageEnd:
    """Told by llhttp when a message begins, has body and ends."""

    __slots__ = ("begun", "complete", "on_body", "pieces")

    def __init__(self) -> None:
        self.begun = 0
        self.complete = False
        # A bound C method: cannot fail inside llhttp, and costs a tenth of a Python one.
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append

    def on_message_begin(self) -> None:
        """One more message."""
        self.begun += 1

    def on_message_complete(self) -> None:
        """Its last byte was seen."""
        self.complete = True
