"""Metering keys: `mk_<environment>_<30 base62><6 base62 of a CRC-32>`.

The prefix makes a leaked key easy to find, the checksum tells a typo from an unknown key without a lookup,
and only the SHA-256 of the whole secret is ever stored: 178 random bits need no slow hash.
"""

import hashlib
import re
import secrets
import zlib
from collections.abc import Callable, Iterable

from metering.sidecar.config import KeyConfig

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 30
CHECKSUM_LENGTH = 6
_SHAPE = re.compile(rb"mk_[a-z0-9]{1,16}_[0-9A-Za-z]{36}")


def mint_secret(environment: str, pick: Callable[[str], str] = secrets.choice) -> str:
    """A new secret. `environment` is 1 to 16 of a–z and 0–9 (`ValueError` otherwise)."""
    if not re.fullmatch(r"[a-z0-9]{1,16}", environment):
        raise ValueError(f"{environment!r} can't be in a key: use 1 to 16 of a-z and 0-9, such as live or test")
    body = f"mk_{environment}_" + "".join(pick(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + _checksum(body.encode())


def hash_secret(secret: bytes) -> bytes:
    """What is stored in place of the secret."""
    return hashlib.sha256(secret).digest()


def well_formed(secret: bytes) -> bool:
    """Whether shape and checksum are right, so that only a real or a forged key goes on."""
    return bool(_SHAPE.fullmatch(secret)) and _checksum(secret[:-CHECKSUM_LENGTH]).encode() == secret[-CHECKSUM_LENGTH:]


def _checksum(body: bytes) -> str:
    left, digits = zlib.crc32(body), ""
    for _ in range(CHECKSUM_LENGTH):
        left, digit = divmod(left, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


class KeyRing:
    """The keys of the configuration, found by the hash of their secret.

    A dictionary look-up isn't constant-time, but its timing speaks about a SHA-256 the caller can't steer.
    """

    def __init__(self, keys: Iterable[KeyConfig]) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def find(self, secret: bytes) -> KeyConfig | None:
        """The key with this secret, None if there is none."""
        return self._by_digest.get(hash_secret(secret))
