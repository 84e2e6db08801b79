"""A disk that may lose power: it drops, reorders and tears what was not synced, and forgets names that were not.

The files are real ones in a folder, as the page cache shows them; the disk remembers beside them what is durable.
After a power loss a new folder holds what is left. A process that is killed loses nothing.
"""

import errno
import os
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from metering.sidecar.spool.disk import Disk

SECTOR = 512


class Crashed(BaseException):
    """The process ends here."""


class File:
    """A file's bytes on the disk, and the writes that are not there yet."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[tuple[int, bytes | None]] = []  # offset and data; None: cut there
        self.failed = False  # a sync failed: each descriptor is told once, and would be told next that all is well
        self.told: set[int] = set()

    def settle(self) -> None:
        """All of it is on the disk."""
        for offset, data in self.pending:
            self.durable = _apply(self.durable, offset, data)
        self.pending = []

    def lose(self, dice: random.Random) -> None:
        """Some of it is on the disk, in any order, in parts of sectors."""
        keep = dice.choice([0.0, 0.5, 0.9, 1.0])
        in_order = dice.random() < 0.4
        for offset, data in self.pending:
            if dice.random() > keep:
                if in_order:
                    break
                continue
            if data is not None and not in_order and dice.random() < 0.3:
                for start, end in _sectors(offset, len(data)):
                    if dice.random() < 0.5:
                        self.durable = _apply(self.durable, offset + start, data[start:end])
                continue
            torn = data is not None and dice.random() < 0.2
            self.durable = _apply(self.durable, offset, data[: dice.randrange(len(data))] if data and torn else data)
        self.pending = []


class Name:
    """A change of names: `node` is now called `new` (None: nothing) and no longer `old`."""

    def __init__(
        self, node: "File | Folder", old: "tuple[Folder, str] | None", new: "tuple[Folder, str] | None"
    ) -> None:
        self.node, self.old, self.new = node, old, new

    def settle(self) -> None:
        """Do it on the disk."""
        if self.old is not None and self.old[0].durable.get(self.old[1]) is self.node:
            del self.old[0].durable[self.old[1]]
        if self.new is not None:
            self.new[0].durable[self.new[1]] = self.node
        for place in (self.old, self.new):
            if place is not None and self in place[0].pending:
                place[0].pending.remove(self)


class Folder:
    """Names on the disk, names now, and what lies between."""

    def __init__(self) -> None:
        self.durable: dict[str, File | Folder] = {}
        self.names: dict[str, File | Folder] = {}
        self.pending: list[Name] = []


class SimulatedDisk:
    """`disk` does what a spool asks for. `crash_after` operations from now on the process ends in the middle of one."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        self.disk = Disk(
            open=self._open, close=self._close, write=self._write, ftruncate=self._ftruncate,
            fdatasync=self._fdatasync, fsync=self._fsync, rename=self._rename, unlink=self._unlink, mkdir=self._mkdir,
        )  # fmt: skip
        self.crash_after: int | None = None
        self.fault_rate = 0.0
        self.interlude: Callable[[], None] | None = None  # what others do while a write is half done
        self._dice = dice
        self._root = root
        self._lives = 0
        self._tree = Folder()
        self._fds: dict[int, File | Folder] = {}
        self._crashed = False
        self.folder.mkdir()

    @property
    def folder(self) -> Path:
        """Where the files are now."""
        return self._root / str(self._lives)

    def kill(self) -> None:
        """The process is gone, the kernel and its caches are not."""
        for fd in list(self._fds):
            self._close(fd)
        self._crashed, self.crash_after = False, None

    def lose_power(self) -> None:
        """The kernel is gone too: a new folder shows what is left."""
        self.kill()
        self._lives += 1
        pending = {id(name): name for folder in _folders(self._tree) for name in folder.pending}
        keep = self._dice.choice([0.0, 0.5, 1.0])
        for name in pending.values():
            if self._dice.random() < keep:
                name.settle()
        self.folder.mkdir()
        self._restore(self._tree, self.folder)

    def _restore(self, folder: Folder, path: Path) -> None:
        folder.names, folder.pending = dict(folder.durable), []
        for name, node in folder.durable.items():
            if isinstance(node, Folder):
                (path / name).mkdir()
                self._restore(node, path / name)
            else:
                node.lose(self._dice)
                node.failed = False
                (path / name).write_bytes(node.durable)

    # ── operations ────────────────────────────────────────────────────────────────────────────────────

    def _step(self) -> bool:
        """One operation more; True if the process ends in it."""
        if self._crashed:
            raise Crashed
        if self.crash_after is not None:
            self.crash_after -= 1
            self._crashed = self.crash_after < 0
        return self._crashed

    def _may_fail(self, rate: float, number: int) -> None:
        if self._dice.random() < rate:
            raise OSError(number, os.strerror(number))

    def _place(self, path: Path) -> tuple[Folder, str]:
        folder = self._tree
        *way, name = path.relative_to(self.folder).parts
        for part in way:
            inner = folder.names[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name

    def _open(self, path: Path, flags: int) -> int:
        if self._step():
            raise Crashed
        if path == self.folder:
            fd = os.open(path, flags)
            self._fds[fd] = self._tree
            return fd
        folder, name = self._place(path)
        if flags & os.O_CREAT:
            self._may_fail(self.fault_rate, errno.ENOSPC)
        fd = os.open(path, flags | os.O_CLOEXEC, 0o640)
        node = folder.names.get(name)
        if node is None:
            node = folder.names[name] = File()
            folder.pending.append(Name(node, None, (folder, name)))
        elif flags & os.O_TRUNC and isinstance(node, File):
            node.pending.append((0, None))
        self._fds[fd] = node
        return fd

    def _close(self, fd: int) -> None:
        node = self._fds.pop(fd, None)
        if node is not None:
            os.close(fd)
        if isinstance(node, File):
            node.told.discard(fd)

    def _write(self, fd: int, data: bytes) -> int:
        ends, file = self._step(), self._fds[fd]
        assert isinstance(file, File)
        offset, size = os.fstat(fd).st_size, len(data)
        if not ends:
            self._may_fail(self.fault_rate, self._dice.choice([errno.ENOSPC, errno.EIO]))
        if (ends or self._dice.random() < 2 * self.fault_rate) and len(data) > 1:
            data = data[: self._dice.randrange(1, len(data))]  # a write cut short
        written = os.write(fd, data)
        file.pending.append((offset, data))
        if ends:
            raise Crashed
        if written < size and self.interlude is not None:
            self.interlude()
        return written

    def _ftruncate(self, fd: int, size: int) -> None:
        if self._step():
            raise Crashed
        self._may_fail(self.fault_rate, errno.EIO)
        file = self._fds[fd]
        assert isinstance(file, File)
        os.ftruncate(fd, size)
        file.pending.append((size, None))

    def _fdatasync(self, fd: int) -> None:
        ends, file = self._step(), self._fds[fd]
        assert isinstance(file, File)
        assert fd not in file.told, "a failed sync is tried again on the same file"
        if not ends and self._dice.random() < 3 * self.fault_rate:
            file.lose(self._dice)  # the kernel forgets what it could not write, and shows it still
            file.failed = True
        if file.failed:
            file.told.add(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if ends:
            raise Crashed
        file.settle()

    def _fsync(self, fd: int) -> None:
        ends, folder = self._step(), self._fds[fd]
        assert isinstance(folder, Folder)
        if not ends:
            self._may_fail(2 * self.fault_rate, errno.EIO)
        for name in list(folder.pending):
            if not ends or self._dice.random() < 0.5:
                name.settle()
        if ends:
            raise Crashed

    def _rename(self, old: Path, new: Path) -> None:
        if self._step():
            raise Crashed
        self._may_fail(self.fault_rate, errno.EIO)
        (source, former), (target, name) = self._place(old), self._place(new)
        old.replace(new)
        node = source.names.pop(former)
        target.names[name] = node
        change = Name(node, (source, former), (target, name))
        source.pending.append(change)
        if target is not source:
            target.pending.append(change)

    def _unlink(self, path: Path) -> None:
        if self._step():
            raise Crashed
        self._may_fail(self.fault_rate, errno.EIO)
        if path.exists():
            path.unlink()
            folder, name = self._place(path)
            folder.pending.append(Name(folder.names.pop(name), (folder, name), None))

    def _mkdir(self, path: Path) -> None:
        if self._step():
            raise Crashed
        self._may_fail(self.fault_rate, errno.ENOSPC)
        path.mkdir()
        folder, name = self._place(path)
        inner = folder.names[name] = Folder()
        folder.pending.append(Name(inner, None, (folder, name)))


def _folders(folder: Folder) -> list[Folder]:
    inner = {id(node): node for node in (*folder.names.values(), *folder.durable.values()) if isinstance(node, Folder)}
    return [folder, *(found for node in inner.values() for found in _folders(node))]


def _apply(content: bytes, offset: int, data: bytes | None) -> bytes:
    if data is None:
        return content[:offset].ljust(offset, b"\0")
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _sectors(offset: int, size: int) -> list[tuple[int, int]]:
    """Where a write of `size` bytes at `offset` falls apart: from and to, within the write."""
    edges = [0, *range(SECTOR - offset % SECTOR, size, SECTOR), size]
    return list(pairwise(edges))
