"""Where the estimator's socket is, however deep its folder lies."""

import os
import sys
from pathlib import Path

PATH_BYTES_MAX = 90  # Linux takes 107, macOS 103


def socket_path(folder: Path, name: str) -> str:
    """A path to `name` in `folder` that is short enough for a socket's."""
    path = str(folder / name)
    if len(os.fsencode(path)) <= PATH_BYTES_MAX or sys.platform != "linux":
        return path
    # The descriptor stays open as long as the process: the path is by way of it.
    return f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY)}/{name}"
