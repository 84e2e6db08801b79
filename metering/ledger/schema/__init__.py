"""The tables, in SQLAlchemy Core: one module a subject, one `MetaData` for all.

The migrations make the tables; these definitions query them. A test proves that both say the same.
"""

from importlib import import_module
from pkgutil import iter_modules

from sqlalchemy import MetaData

# Names are settled by rule, so that a migration can always name what it changes.
NAMING = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def complete_metadata() -> MetaData:
    """`metadata` with the tables of every module in this package."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return metadata
