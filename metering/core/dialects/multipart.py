"""Short fields of a form (multipart/form-data, RFC 7578) of which the two ends were kept.

Transcriptions and image edits are sent so: a file of any size, and model, stream and size in fields before or after
it. The boundary is the first line of the body itself, which no client precedes with anything.
"""

import re
from collections.abc import Collection, Iterator

FIELD_BYTES_MAX = 1024
PARTS_MAX = 64
BOUNDARY_BYTES_MAX = 256  # RFC 2046 allows 70
_NAME = re.compile(rb'^content-disposition:[^\r\n]*?[;\s]name="?([^";\r\n]*)', re.IGNORECASE | re.MULTILINE)
_FILE = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


def is_form(body: bytes) -> bool:
    """Whether `body` begins as a form does; JSON never does."""
    return body.startswith((b"--", b"\r\n--"))


def form_fields(head: bytes, tail: bytes, names: Collection[str]) -> tuple[dict[str, str], bool]:
    """The fields called `names`, and whether there are no others: the form is here from end to end.

    `tail` is empty, or the last bytes of a longer body. A file, a field that is cut or long says nothing. The first
    of two with the same name is taken.
    """
    head = head.removeprefix(b"\r\n")
    first_line = head[: BOUNDARY_BYTES_MAX + 2].partition(b"\r\n")
    if not first_line[1] or len(first_line[0]) < 3:
        return {}, False
    delimiter = b"\r\n" + first_line[0]
    fields, ended = _read(b"\r\n" + head, delimiter, names)
    if tail:
        later, _ = _read(tail, delimiter, names)
        fields, ended = later | fields, False
    return fields, ended


def _read(text: bytes, delimiter: bytes, names: Collection[str]) -> tuple[dict[str, str], bool]:
    fields: dict[str, str] = {}
    for part in _parts(text, delimiter):
        if part is None:
            return fields, True
        headers, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(headers)
        if name is None or len(content) > FIELD_BYTES_MAX or _FILE.search(headers):
            continue
        called = name[1].decode("utf-8", "replace")
        if called in names:
            fields.setdefault(called, content.decode("utf-8", "replace"))
    return fields, False


def _parts(text: bytes, delimiter: bytes) -> Iterator[bytes | None]:
    """What stands between two delimiters of `text`; None for the end of the form."""
    start = text.find(delimiter)
    for _ in range(PARTS_MAX):
        if start < 0:
            return
        start += len(delimiter)
        if text.startswith(b"--", start):
            yield None
            return
        end = text.find(delimiter, start)
        if end >= 0:
            yield text[start:end]
        start = end
