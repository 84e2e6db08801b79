"""Sign a request with the sidecar's own AWS identity: Signature Version 4, by botocore.

Imported only by a worker that has such a route. `sign` hashes megabytes and may ask a metadata service for
credentials, so it runs in a thread and never in the loop. Nothing of a credential is ever logged.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from time import monotonic

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session

from metering.sidecar.relay.request_head import BLANK_LINE
from metering.sidecar.route_config import Signing, Upstream

THREADS = 4
COMPLAIN_SECONDS = 1.0
RENEWED_SECONDS = 5.0  # a wrong route must not read the credentials anew for every call
# What the client signed with, or speaks to us. A bearer token is no identity of ours either.
_STRIPPED = frozenset((b"authorization", b"expect", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256"))
_SIGNED = re.compile(rb"host|content-type|x-amz.*")


class Signer:
    """Signs for one route."""

    def __init__(self, config: Signing, upstream: Upstream, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self._config = config
        self._origin = f"{'https' if upstream.tls else 'http'}://{upstream.authority}"
        self._lock = Lock()
        self._session: Session | None = None
        self._found_at = self._complain_at = 0.0

    def may_complain(self) -> bool:
        """Whether to log a failure: an outage meets every call."""
        now = monotonic()
        due = now >= self._complain_at
        if due:
            self._complain_at = now + COMPLAIN_SECONDS
        return due

    def renew(self) -> None:
        """AWS refused a signature: look for credentials anew, for a file may have other ones by now.

        Those that say when they end are refreshed by botocore before.
        """
        if monotonic() > self._found_at + RENEWED_SECONDS:
            self._session = None

    def sign(self, head: bytes, body: bytes) -> bytes:
        """The head that carries the signature of both. Blocks. Raises what botocore does.

        `head` is what would go upstream: its target is signed as it stands, nothing is encoded or decoded.
        """
        start, *lines = head[: -len(BLANK_LINE)].split(b"\r\n")
        method, target, _ = start.split(b" ")
        request = AWSRequest(method.decode(), self._origin + target.decode("latin-1"), data=body)
        kept = [start]
        for line in lines:
            name, _, value = line.partition(b":")
            lowered = name.lower()
            if lowered in _STRIPPED:
                continue
            kept.append(line)
            if _SIGNED.fullmatch(lowered):
                request.headers[lowered.decode()] = value.strip().decode("latin-1")
        before = len(request.headers)
        SigV4Auth(self._find_credentials(), self._config.service, self._config.region).add_auth(request)
        added = request.headers.items()[before:]
        return b"\r\n".join([*kept, *(f"{name}: {value}".encode() for name, value in added)]) + BLANK_LINE

    def _find_credentials(self) -> ReadOnlyCredentials | None:
        """Blocks, perhaps for a metadata service. Raises what botocore and the system raise."""
        with self._lock:
            session, self._session = self._session, None
            if session is None:
                session = Session(profile=self._config.profile)
                self._found_at = monotonic()
            found = session.get_credentials()
            if found is None:
                return None
            self._session = session  # only one that works: it reads its files once
        return found.get_frozen_credentials()
