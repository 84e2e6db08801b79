"""How far our own counts are from the providers': recordings that report their usage, read with it hidden.

    python -m benchmarks.estimates --output json|table [--quick] [--recordings DIR] [--fit]

Bars: the median error of output tokens is at most 2 % for OpenAI's models, at most 10 % for all others, on the half of
the recordings that no factor was fitted on. `--fit` finds the factors of `metering/core/texts/families.py` anew, which
takes minutes. `--quick` reads our own recordings only: too few for the bars.
"""

import argparse
from pathlib import Path

import msgspec

from benchmarks.estimates.fit import fit
from benchmarks.estimates.report import make_report, to_markdown
from benchmarks.estimates.samples import read_samples
from metering.sidecar.config import parse_config
from metering.sidecar.estimate.estimator import Estimator
from metering.sidecar.estimate.tokenizers import Tokenizers
from metering.sidecar.estimate.vocabularies import Tiktoken

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests" / "recordings"
SHARED = ROOT.parent / "shared" / "recordings"
CONFIG = '[[route]]\npath = "/"\nupstream = "http://127.0.0.1:1"\nprovider = "any"\n'


def make_estimator() -> Estimator:
    """One as a sidecar without tokenizers of its own has it."""
    return Estimator(Tokenizers(parse_config(CONFIG, Path())))


def main() -> int:
    """Measure and print; the exit code says whether the bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="our own recordings only")
    parser.add_argument("--recordings", type=Path, default=SHARED if SHARED.is_dir() else OWN)
    parser.add_argument("--fit", action="store_true", help="print factors and overheads fitted anew")
    arguments = parser.parse_args()
    samples, excluded = read_samples(OWN if arguments.quick else arguments.recordings, make_estimator())
    if arguments.fit:
        names = {sample.family.vocabulary for sample in samples}
        for name, members in fit(samples, {name: Tiktoken(name).count for name in names}).items():
            print(name, members)
        return 0
    report = make_report(samples, excluded)
    print(
        msgspec.json.format(msgspec.json.encode(report)).decode() if arguments.output == "json" else to_markdown(report)
    )
    return 0 if arguments.quick or all(report.met.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
