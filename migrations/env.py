"""Run the migrations on the connection that `metering.ledger.migrate` hands over: there is no alembic.ini.

`migrate` has set the timeouts and holds the advisory lock; here is only what Alembic must be told.
"""

from alembic import context

from metering.ledger.schema import complete_metadata

connection = context.config.attributes["connection"]
# One transaction for all: an upgrade that fails leaves the ledger as it was.
context.configure(connection=connection, target_metadata=complete_metadata(), transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
