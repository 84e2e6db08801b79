"""The team directory in the ledger: each import a version of its own, the newest in force."""

from datetime import datetime

from sqlalchemy import func, insert, select

from metering.core.teams import TeamAssignment, TeamDirectory
from metering.ledger.engine import Connection
from metering.ledger.schema.teams import team_cost_center, team_directory_version

IMPORT_LOCK = 0x7465616D73  # ASCII "teams": one import at a time


def load_directory(connection: Connection) -> TeamDirectory:
    """The directory in force; an empty one if none was ever imported."""
    newest = select(func.max(team_directory_version.c.version_id)).scalar_subquery()
    columns = [team_cost_center.c[name] for name in TeamAssignment.__struct_fields__]
    rows = connection.execute(select(*columns).where(team_cost_center.c.version_id == newest)).mappings()
    return TeamDirectory(TeamAssignment(**row) for row in rows)


def replace_directory(connection: Connection, directory: TeamDirectory, imported_at: datetime) -> bool:
    """Put `directory` in force as a new version; `False` if the one in force already says the same."""
    connection.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK)))
    if load_directory(connection).digest == directory.digest:
        return False
    version_id = connection.execute(
        insert(team_directory_version)
        .values(digest=directory.digest, row_count=len(directory.assignments), imported_at=imported_at)
        .returning(team_directory_version.c.version_id)
    ).scalar_one()
    fields = TeamAssignment.__struct_fields__
    rows = [{"version_id": version_id} | {name: getattr(row, name) for name in fields} for row in directory.assignments]
    if rows:
        connection.execute(insert(team_cost_center), rows)
    return True
