"""What the sidecar costs beside nginx, a direct connection and its peers.

    python -m benchmarks.sidecar --output json|table [--quick]

nginx (`proxy_pass`, buffering off, no log) counts nothing and is the floor. The sidecar is the whole of it, supervisor
and workers, every call in its durable spool; `power` is the same with `durability = "power"`, `shipping` with the
shipper bringing the counts to an embedded Postgres meanwhile. The primary figure is the CPU time of a proxy's own
processes by unit of work: a call, or a chunk where there are chunks; supervisor and shipper (with its Postgres) are
told apart. A case fails if a call fails, or if an answered call is not in the spool.

Neither end is the bottleneck of CPU figures: they are the proxy's own time, whatever the ends cost. Whether the ends
limit throughput, `headroom` and `proxy_busy` say: calls direct by calls through the proxy, and the share of the time
in which the proxy ran. Where it ran less than 0.9 of a core its throughput is a lower bound. Chunks that come as fast
as they are taken meet on the way (`reads_per_unit`: reads of the client by chunk); paced ones do not. Paced streams
are open loop: chunks are due when they are due; `late_p99_us` is how late the upstream itself was, and `kept_up` the
share of chunks that came.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.sidecar.case import CASES, PEERS
from benchmarks.sidecar.contestants import CaseFailed, find_nginx
from benchmarks.sidecar.peers import find_peers
from benchmarks.sidecar.report import print_table, summarize_run
from benchmarks.sidecar.rounds import Machine, run_case

PEERS_VARIABLE = "BENCHMARK_PEERS_DIR"


def main() -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped then too
    arguments = _parse()
    installed = find_peers(arguments.peers_dir) if arguments.peers_dir else {}
    wanted = [] if arguments.quick else [name for name in arguments.peers.split(",") if name]
    peers = {name: program for name, program in installed.items() if name in wanted}
    machine = Machine(peers)
    there = {"direct", "sidecar", *peers} | ({"nginx"} if find_nginx() else set())
    there |= set() if arguments.quick else {"power", "shipping"}
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    seconds = arguments.seconds or (0.8 if arguments.quick else 2.0)
    asked = arguments.cases.split(",") if arguments.cases else [c.name for c in CASES if c.quick or not arguments.quick]
    found, failed = {}, {}
    for case in CASES:
        if case.name in asked:
            names = [name for name in case.contestants if name in there]
            print(f"{case.name}: {case.says} ({', '.join(names)})", file=sys.stderr, flush=True)
            try:
                found[case.name] = run_case(machine, case, names, rounds, seconds)
            except CaseFailed as failure:  # the others' figures are worth their minutes
                failed[case.name] = str(failure)
    absent = sorted(({"nginx", *PEERS} if not arguments.quick else {"nginx"}) - there)
    run = summarize_run(found, absent=absent, failed=failed, seconds=seconds)
    if arguments.output == "json":
        print(json.dumps(run, indent=2))
    else:
        print_table(run)
    if failed:
        raise SystemExit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sidecar", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", choices=["json", "table"], default="table")
    parser.add_argument("--quick", action="store_true", help="three cases, without peers; under 50 s")
    parser.add_argument("--rounds", type=int, help="of each case (5; 3 if quick)")
    parser.add_argument("--seconds", type=float, help="of each round's window (2; 0.8 if quick)")
    parser.add_argument("--cases", help=f"comma-separated, of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"comma-separated (default: {','.join(PEERS)})")
    parser.add_argument(
        "--peers-dir",
        type=Path,
        default=os.environ.get(PEERS_VARIABLE),
        help=f"where peers are installed, each in a folder of its name (default: ${PEERS_VARIABLE})",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
