"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


# Forward only, and one release at a time: the release before this one keeps running on the new tables.
def upgrade() -> None:
    """${message}"""
    ${upgrades if upgrades else "pass"}
