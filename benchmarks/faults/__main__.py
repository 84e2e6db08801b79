"""Break everything on purpose, again and again, under load; then every call must be in the books exactly once.

    python -m benchmarks.faults --seed 7 --kills 1000 --calls 1000000 --log kills.jsonl --output json

A campaign runs in rounds. Each begins anew and follows its own seed, so `--seed 7 --round 3` plays round 3 again.
With `--log` each round's result is a line of that file, and a run that is started again goes on behind the last one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import commits, cuts, kills, outage
from benchmarks.workshop import open_workshop
from metering.errors import MeteringError

CAMPAIGNS = {"kills": kills.run_round, "commits": commits.run_round, "cuts": cuts.run_round, "outage": outage.run_round}
ROUND_KILLS = 50
QUICK = (10, 5_000)  # kills, calls


def main() -> int:
    """Run it; 0 if nothing is lost, double or wrong, and no call failed that had no part in it."""
    options = _parse()
    rounds = -(-options.kills // ROUND_KILLS)
    share = {"kills": -(-options.kills // rounds), "calls": -(-options.calls // rounds)}
    done = _read_log(options.log, share | {"campaign": options.campaign, "seed": options.seed})
    numbers = range(rounds) if options.round is None else [options.round]
    for number in numbers:
        if number not in done:
            done[number] = _run_round(options, number, share)
            _append_log(options.log, done[number])
    told = _told(options.seed, [done[number] for number in numbers])
    print(json.dumps(told, indent=2) if options.output == "json" else _table(told))
    return 5 if told["wrong_rounds"] else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--campaign", choices=list(CAMPAIGNS), default="kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=50, help="in all rounds together")
    parser.add_argument("--calls", type=int, default=50_000, help="at least so many, in all rounds together")
    parser.add_argument("--round", type=int, help="only this one, from 0")
    parser.add_argument("--log", type=Path, help="a line of JSON a round; those that are there are not repeated")
    parser.add_argument("--output", choices=("json", "table"), default="table")
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folders")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.calls = QUICK
    return options


def _run_round(options: argparse.Namespace, number: int, share: dict[str, int]) -> dict[str, Any]:
    told = {"campaign": options.campaign, "seed": options.seed, "round": number, "planned": share}
    try:
        with open_workshop("metering-faults-", keep=options.keep) as workshop:
            found = CAMPAIGNS[options.campaign](workshop, seed=options.seed, number=number, **share)
    except MeteringError as error:
        found = {"equal": False, "stopped": str(error)}
    return told | found


def _read_log(log: Path | None, plan: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The rounds of the same plan that a log has."""
    if log is None or not log.exists():
        return {}
    rounds = [json.loads(line) for line in log.read_text().splitlines()]
    wanted = (plan["campaign"], plan["seed"], {"kills": plan["kills"], "calls": plan["calls"]})
    return {told["round"]: told for told in rounds if (told["campaign"], told["seed"], told["planned"]) == wanted}


def _append_log(log: Path | None, told: dict[str, Any]) -> None:
    if log is not None:
        with log.open("a") as lines:
            lines.write(json.dumps(told) + "\n")


def _told(seed: int, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All rounds together: numbers added up, and what went wrong in which."""
    total: dict[str, Any] = {"seed": seed, "rounds": len(rounds)}
    for told in rounds:
        _add(total, {name: value for name, value in told.items() if name not in ("seed", "round", "planned")})
    total["seconds"] = round(total.get("seconds", 0.0), 1)
    total["calls_per_second"] = round(total.get("calls", 0) / max(total["seconds"], 0.1))
    total["wrong_rounds"] = [told["round"] for told in rounds if not (told["equal"] and told.get("unaffected", True))]
    return total


def _add(total: dict[str, Any], more: dict[str, Any]) -> None:
    """Numbers and lists are added, truths hold only together, the first of what else differs stays."""
    for name, value in more.items():
        have = total.get(name)
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        elif isinstance(value, bool):
            total[name] = value and have is not False
        elif name.startswith("longest_"):
            total[name] = max(value, have or 0)
        elif isinstance(value, int | float | list) and not isinstance(have, str):
            total[name] = value if have is None else have + value
        elif have is None or have == "empty":
            total[name] = value


def _table(told: dict[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in told.items():
        if value and isinstance(value, dict):
            lines += [f"{indent}{name}", _table(value, indent + "  ")]
        elif value != {}:
            lines.append(f"{indent}{name:<32} {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
