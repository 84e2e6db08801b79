"""The emulator's text: as many words as asked for, the same ones every time, cut from one buffer.

Every word has five letters, so word `n` begins at byte `6 * n` and any stretch of text is a slice.
"""

from itertools import pairwise

_WORDS = b"every token finds their owner after count price share clear month close audit again until light "
_WIDTH = 6
_BUFFER = _WORDS * 512  # 8,192 words, 48 KiB


def _stretch(first: int, last: int) -> bytes:
    buffer = _BUFFER if last * _WIDTH <= len(_BUFFER) else _WORDS * (last * _WIDTH // len(_WORDS) + 1)
    return buffer[first * _WIDTH : last * _WIDTH]


def text(words: int) -> bytes:
    """`words` words, ASCII, nothing that JSON escapes.

    >>> text(3)
    b'every token finds'
    """
    return _stretch(0, words)[:-1]


def pieces(words: int, chunks: int) -> list[bytes]:
    """`text(words)` in `chunks` pieces of (nearly) equal length; with more chunks than words some are empty.

    >>> pieces(3, 2)
    [b'every ', b'token finds']
    """
    bounds = [words * i // chunks for i in range(chunks + 1)]
    parts = [_stretch(first, last) for first, last in pairwise(bounds)]
    for i in reversed(range(chunks)):  # the text ends without a space, in whichever piece holds its last word
        if parts[i]:
            parts[i] = parts[i][:-1]
            break
    return parts
