"""Who a call belongs to: metering key, then the route's static labels, then headers the route trusts.

Each field is filled by the first of the three that names it, so a client can add to what is configured but
never change it.
"""

from collections.abc import Mapping

from metering.core.event import Attribution
from metering.sidecar.config import KeyConfig

FIELDS = ("team", "project", "environment", "principal")
LABEL_LENGTH_MAX = 256


def attribute(key: KeyConfig | None, labels: Mapping[str, str]) -> Attribution:
    """Key first, then labels; labels that are no field of `Attribution` become tags."""
    named = {field: (getattr(key, field) if key else None) or labels.get(field) for field in FIELDS}
    tags = {name: value for name, value in labels.items() if name not in FIELDS}
    return Attribution(credential_id=key.id if key else None, tags=tags, **named)


def add_trusted(known: Attribution, headers: Mapping[str, str]) -> Attribution:
    """`known` plus what trusted headers say about fields and tags that are still empty."""
    named = {field: getattr(known, field) or headers.get(field) for field in FIELDS}
    tags = {name: value for name, value in headers.items() if name not in FIELDS} | known.tags
    return Attribution(credential_id=known.credential_id, tags=tags, **named)


def read_label(value: bytes) -> str | None:
    """A trusted header's value as a label: trimmed, UTF-8 or Latin-1, bounded; None if nothing is left."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.strip()[:LABEL_LENGTH_MAX] or None
