"""The corpus with real servers behind the relay: they see the requests that were meant, as they were meant."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sidecar.hostile.case import Case
from tests.sidecar.hostile.corpus import CASES
from tests.sidecar.hostile.servers import SERVERS
from tests.sidecar.hostile.test_requests import send
from tests.sidecar.rig import relaying, run, serve, until

BEHIND = b"GET /behind 0\n"
HAS_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def judge(case: Case, answer: bytes) -> Iterator[str]:
    """What is wrong with what a server took a case for. It may refuse, by itself, what is not for servers."""
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", answer)]
    taken = [line.encode() + b"\n" for line in re.findall(r"^[A-Z-]+ \S+ \d+$", answer.decode("latin-1"), re.MULTILINE)]
    expected = [] if case.method == b"HEAD" else [b"%s %s %d\n" % (case.method, case.target, len(case.body))]
    if case.status:
        if statuses != [case.status] or taken:
            yield f"{statuses}, taken for {taken}"
        return
    if statuses[:1] != [200]:
        expected = []
        if not statuses or statuses[0] not in (400, 405, 501):
            yield f"{statuses}"
    if taken not in (expected, [*expected, BEHIND]):
        yield f"{statuses}, taken for {taken}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(name == "nginx" and not HAS_NGINX, reason="nginx is not installed (nginx-light)"),
        )
        for name in SERVERS
    ],
)
def test_a_server_sees_what_was_meant(tmp_path: Path, name: str) -> None:
    wrong: dict[str, list[str]] = {}
    answered = 0

    async def test() -> None:
        nonlocal answered
        async with SERVERS[name](tmp_path) as (port, count), relaying(tmp_path, serve(), port=port) as rig:
            for case in CASES:
                answer = await send(rig, [case.sent], BEHIND)
                if found := list(judge(case, answer)):
                    wrong[case.name] = found
                answered += answer.count(b"HTTP/1.1 200 ")
            assert not wrong, "\n".join(f"{case}: {what}" for case, what in wrong.items())
            await until(lambda: count() >= answered)
            assert count() == answered == sum(event.status == 200 for event in rig.records())
            assert answered > sum(not case.status for case in CASES)

    run(test(), seconds=120)
