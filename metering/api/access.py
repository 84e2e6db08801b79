"""Who may ask: a bearer token from a file, kept only as its hash, compared in constant time."""

import hashlib
import hmac
from pathlib import Path

from metering.errors import ConfigError

TOKEN_CHARACTERS_MIN = 16


class BearerToken:
    """The one token the API accepts."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def accepts(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries the token."""
        scheme, _, said = (authorization or "").partition(" ")
        given = hashlib.sha256(said.strip().encode()).digest()
        return hmac.compare_digest(given, self._digest) and scheme.lower() == "bearer"


def read_token(path: Path) -> BearerToken:
    """The token in `path`, blanks around it stripped. `ConfigError` if it can't be read or is too short to be one."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {path} can't be read: {error}") from None
    if len(token) < TOKEN_CHARACTERS_MIN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token-file {path} must hold one token of at least {TOKEN_CHARACTERS_MIN} characters: "
            "write one with `openssl rand -hex 32`"
        )
    return BearerToken(token)
