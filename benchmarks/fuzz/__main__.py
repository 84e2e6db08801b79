"""Fuzz the readers: `python -m benchmarks.fuzz [--cpu-seconds 3600] [--quick]`.

Each target runs in a process of its own under atheris (libFuzzer), one after another, for its share of the time, from
our recordings as seeds; the corpus lives in a temporary folder. A crash, an input that takes over `SLOW_SECONDS`, or
memory over `RSS_MB_MAX` ends a target and is told with the input that did it, in base64. Exit code 1 if there is one.

atheris has wheels for few Pythons, so it is not among the tools that `make setup` installs: `pip install atheris`.
"""

import argparse
import base64
import importlib.util
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fuzz.targets import TARGETS, seeds

RSS_MB_MAX = 512
SLOW_SECONDS = 5
INPUT_BYTES_MAX = 16 * 1024
QUICK_SECONDS = 40
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_PEAK = re.compile(r"stat::peak_rss_mb:\s+(\d+)")
_COVERED = re.compile(r"cov: (\d+)")

WORKER = """
import sys, atheris
with atheris.instrument_imports(include=["metering.core"]):
    import metering.core.dialects
from benchmarks.fuzz.targets import TARGETS
atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
atheris.Fuzz()
"""


def fuzz(target: str, seconds: int, seed: int, keep: Path | None) -> dict[str, object]:
    """Run one target; what it found."""
    with tempfile.TemporaryDirectory(prefix="metering-fuzz-") as temporary:
        folder = keep / target if keep else Path(temporary) / "corpus"
        folder.mkdir(parents=True, exist_ok=True)
        for number, text in enumerate(seeds(target)):
            (folder / f"seed-{number}").write_bytes(text[:INPUT_BYTES_MAX])
        found = Path(temporary) / "found-"
        options = (f"-max_total_time={seconds}", f"-seed={seed}", f"-rss_limit_mb={RSS_MB_MAX}", "-print_final_stats=1",
                   f"-timeout={SLOW_SECONDS}", f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={found}")  # fmt: skip
        command = [sys.executable, "-c", WORKER, target, *options, str(folder)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        culprits = [path.read_bytes() for path in sorted(Path(temporary).glob("found-*"))]
        return _sum_up(target, done, cpu, culprits, len(list(folder.iterdir())))


def _sum_up(
    target: str, done: subprocess.CompletedProcess[str], cpu: float, culprits: list[bytes], corpus: int
) -> dict[str, object]:
    runs, peak, covered = _DONE.search(done.stderr), _PEAK.search(done.stderr), _COVERED.findall(done.stderr)
    return {
        "target": target,
        "runs": int(runs[1]) if runs else None,
        "cpu_seconds": round(cpu, 1),
        "covered_edges": int(covered[-1]) if covered else None,
        "peak_rss_mb": int(peak[1]) if peak else None,
        "corpus": corpus,
        "crashes": len(culprits) if culprits else int(done.returncode != 0),
        "inputs": [base64.b64encode(culprit).decode() for culprit in culprits],
        "told": done.stderr[-2000:] if done.returncode else "",
    }


def main() -> int:
    """Run the targets and print the figures."""
    parser = argparse.ArgumentParser(description="Fuzz everything that reads bytes from strangers.")
    parser.add_argument("--cpu-seconds", type=int, default=3600, help="for all targets together")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS} seconds in all")
    parser.add_argument("--target", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="keep the corpus here and go on from it")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("benchmarks.fuzz: atheris is not installed here: .venv/bin/python -m pip install atheris\n")
        return 2
    names = [options.target] if options.target else list(TARGETS)
    seconds = (QUICK_SECONDS if options.quick else options.cpu_seconds) // len(names)
    figures = [fuzz(name, seconds, options.seed, options.corpus) for name in names]
    crashes = sum(int(str(figure["crashes"])) for figure in figures)
    if options.output == "json":
        sys.stdout.write(json.dumps({"seed": options.seed, "crashes": crashes, "targets": figures}, indent=2) + "\n")
    else:
        table = Table(title=f"seed {options.seed}: {crashes} crashes")
        columns = ("target", "runs", "cpu_seconds", "covered_edges", "peak_rss_mb", "corpus", "crashes")
        for name in columns:
            table.add_column(name.replace("_", " "), justify="left" if name == "target" else "right")
        for figure in figures:
            table.add_row(*(str(figure[name]) for name in columns))
        Console().print(table)
        for figure in figures:
            for culprit in figure["inputs"]:  # type: ignore[attr-defined]  # a list of texts
                Console(soft_wrap=True).print(f"{figure['target']}: {culprit}", highlight=False)
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
