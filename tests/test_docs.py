"""The documents are true: what they name exists, and what exists is named."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from metering.cli import COMMANDS, build_app
from metering.settings import RESERVED_PREFIXES, VARIABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = [*PAGES, ROOT / "docker-compose.yml", *(path for path in (ROOT / "deploy").iterdir() if path.is_file())]
# A command as a reader types it: at the start of a line or of a word in backticks, perhaps after its folder.
TYPED = re.compile(r"(?:^ *|`)(?:\S*/)?metering((?: (?:--)?[a-zA-Z][\w-]*)+)", re.MULTILINE)


def _leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be run: its words, and what it is."""
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
    for name, child in (children or {}).items():
        yield from _leaves(child, (*words, name))


RUN: dict[tuple[str, ...], Any] = dict(_leaves(typer.main.get_command(build_app(COMMANDS.values()))))
GROUPS = {words[:1] for words in RUN}


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_every_command_is_in_the_table_and_no_other() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert set(re.findall(r"^\| `metering ([a-z ]+)` \|", page, re.MULTILINE)) == {" ".join(words) for words in RUN}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_and_options_that_are_named_exist(path: Path) -> None:
    lines = path.read_text().splitlines()
    for match in TYPED.finditer(path.read_text()):
        words = match[1].split()
        known = next((n for n in (2, 1) if tuple(words[:n]) in RUN), None)
        if known is None:
            assert tuple(words[:1]) in GROUPS or words[0] in ("fails", "COMMAND", "--help", "--version"), match[0]
    for line in lines:
        for words, command in RUN.items():
            named = line.partition(f"metering {' '.join(words)} ")[2]
            options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", named.split("#")[0].split("|")[0].split("`")[0]))
            assert options <= _options(command) | {"--help"}, line


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_settings_that_are_named_exist(path: Path) -> None:
    named = {name for name in re.findall(r"\bMETERING_[A-Z_]+", path.read_text()) if name != "METERING_"}
    assert {name for name in named if not name.startswith(RESERVED_PREFIXES)} <= VARIABLES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


def test_every_page_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    found = [ROOT / "README.md"]
    while found:
        page = found.pop()
        seen.add(page)
        links = (page.parent / target for target in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text()))
        found += [link.resolve() for link in links if link.resolve() not in seen]
    assert seen == set(PAGES)


def test_the_tree_in_the_architecture_is_the_real_one() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {f"metering/{folder.parent.name}/" for folder in (ROOT / "metering").glob("*/__init__.py")}
    named = re.findall(r"`([\w./-]+/)`", page)
    assert rooms <= set(named)
    top = {f"{folder.name}/" for folder in ROOT.iterdir() if folder.is_dir() and folder.name[0] not in "._"}
    assert top - {"build/", "dist/"} <= {f"{name.split('/')[0]}/" for name in named}
    assert [folder for folder in named if not any((base / folder).is_dir() for base in _bases())] == []
    files = re.findall(r"`([\w/]+\.(?:py|toml|sql|md))`", page)
    assert [file for file in files if not any(base.joinpath(file).is_file() for base in _bases())] == []


def _bases() -> list[Path]:
    """Folders that names in the tree are relative to."""
    package = ROOT / "metering"
    return [ROOT, package, ROOT / "tests", ROOT / "docs", *(folder for folder in package.rglob("*") if folder.is_dir())]


def test_every_target_of_make_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    texts = " ".join(path.read_text() for path in PAGES)
    assert set(re.findall(r"`make ([a-z-]+)", texts)) <= targets
