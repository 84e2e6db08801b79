"""Responses whose usage several answers tell: each is counted with the first call that is shipped, and no other.

A background response is polled, a batch's object and its result file tell the same. Who is first is settled by
`counted_response`, in the transaction that stores the events, so no two shippers can both be.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from sqlalchemy import text

from metering.ledger.engine import Connection
from metering.ledger.rows import Response, Row

_GIVEN = "CAST(:providers AS text[]), CAST(:ids AS text[])"
# Waits for whoever claims the same response now. Claims come before events and in order: shippers never deadlock.
_CLAIM = text(
    "INSERT INTO counted_response (provider_name, response_id, event_id)"  # noqa: S608 - ours
    f" SELECT * FROM unnest({_GIVEN}, CAST(:event_ids AS uuid[]))"
    " ON CONFLICT DO NOTHING RETURNING provider_name, response_id"
)
_HOLDERS = text(
    "SELECT c.provider_name, c.response_id, c.event_id FROM counted_response c"  # noqa: S608 - ours
    f" JOIN unnest({_GIVEN}) AS v (provider_name, response_id) USING (provider_name, response_id)"
)
_RELEASE = text(
    "DELETE FROM counted_response c"  # noqa: S608 - ours
    f" USING unnest({_GIVEN}) AS v (provider_name, response_id)"
    " WHERE c.provider_name = v.provider_name AND c.response_id = v.response_id"
)


class Claims(msgspec.Struct, frozen=True):
    """With which call's events each response is counted; `made` are the responses nobody had claimed before."""

    holders: dict[Response, UUID] = {}
    made: set[Response] = set()

    def waits(self, row: Row) -> bool:
        """Whether `row` is second to a row that was claimed for just now, and may yet be refused."""
        return row.response in self.made and self.holders[row.response] != row.told_by

    def settled(self, row: Row) -> Row:
        """`row` as it is to be stored: a repeat has no usage."""
        if row.response is None or self.holders[row.response] == row.told_by:
            return row
        return msgspec.structs.replace(row, line=row.repeat_line)


def claim(connection: Connection, rows: Iterable[Row]) -> Claims:
    """Claim the responses of `rows` (by id: of several for one response the earliest call gets it)."""
    wanted: dict[Response, UUID] = {}
    for row in rows:
        if row.response and row.told_by:
            wanted.setdefault(row.response, row.told_by)
    if not wanted:
        return Claims()
    given = _arrays(sorted(wanted))
    event_ids = [wanted[response] for response in sorted(wanted)]
    made = {(provider, name) for provider, name in connection.execute(_CLAIM, given | {"event_ids": event_ids})}
    holders = {(provider, name): event_id for provider, name, event_id in connection.execute(_HOLDERS, given)}
    return Claims(holders, made)


def release(connection: Connection, claims: Claims, rows: Iterable[Row]) -> None:
    """Give back what was claimed just now for events that are not among the stored `rows`."""
    kept = {row.response for row in rows if row.response and claims.holders[row.response] == row.told_by}
    if lost := sorted(claims.made - kept):
        connection.execute(_RELEASE, _arrays(lost))


def _arrays(responses: Sequence[Response]) -> dict[str, list[str]]:
    return {"providers": [provider for provider, _ in responses], "ids": [name for _, name in responses]}
