"""Where the files that ship beside the code are: `migrations/` and `sql/`.

In a checkout they stand at its root, where a DBA looks for them; the wheel carries them inside the package.
"""

from pathlib import Path

from metering.errors import LedgerError

_PACKAGE = Path(__file__).resolve().parents[1]


def assets(name: str) -> Path:
    """The folder `name` (`migrations` or `sql`) of this installation or checkout."""
    for folder in (_PACKAGE / "_assets" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise LedgerError(f"this installation lacks its {name}/ folder: install the metering wheel again")
