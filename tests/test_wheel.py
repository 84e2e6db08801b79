"""The wheel carries what the code needs beside itself and runs elsewhere. `make wheel-check` does more."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    return next(folder.glob("metering-*.whl"))


def test_it_carries_the_package_the_migrations_and_the_sql(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {"metering/_assets": ("migrations", "sql"), "": ("metering",)}
    for prefix, folders in shipped.items():
        for folder in folders:
            files = {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
            missing = {str(Path(prefix, path.relative_to(ROOT))) for path in files} - names
            assert missing == set()
    assert {"metering/py.typed", "metering/_assets/migrations/env.py"} <= names


def test_it_carries_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).parts[0] for name in names} == {"metering", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    assert [name for name in names if name.endswith((".pth", ".pyc"))] == []


def test_installed_elsewhere_it_finds_its_files_and_migrates(
    wheel: Path, tmp_path: Path, empty_database_url: str
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    # The dependencies are borrowed from the environment of the tests, after the wheel; .pth files there stay unread.
    borrowed = Path(pytest.__file__).parents[1]
    code = f"""
import sys
sys.path.append({str(borrowed)!r})
from metering.ledger import assets, migrate
migrate.upgrade({empty_database_url!r})
assert migrate.current({empty_database_url!r}) == migrate.head()
print(assets.assets("sql"), assets.assets("migrations"), sep="\\n")
"""
    assets = site / "metering" / "_assets"
    assert _run(python, "-c", code).splitlines() == [str(assets / "sql"), str(assets / "migrations")]


def _run(python: Path, *words: str) -> str:
    done = subprocess.run([python, "-I", *words], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
