"""Routes, keys, labels and trusted headers, through a running relay."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from metering.core.event import Attribution
from metering.sidecar.keys import hash_secret, mint_secret
from metering.sidecar.relay.attribution import read_label
from metering.sidecar.relay.routes import RouteTable
from tests.sidecar.rig import CHAT, Peer, json_answer, make_config, post, relaying, run

SECRET = mint_secret("test")
OTHER = mint_secret("test")
TYPO = SECRET[:-1] + ("x" if SECRET[-1] != "x" else "y")
KEYS = f"""
[[key]]
id = "search-prod"
hash = "sha256:{hash_secret(SECRET.encode()).hex()}"
team = "search"
principal = "api"
"""
TRUSTING = f"""
labels = {{ project = "static", tier = "gold" }}
trusted_headers = {{ team = "x-team", project = "x-project", feature = "X-Feature" }}
{KEYS}
"""
URL = "/openai/v1/chat/completions"


async def echo(peer: Peer) -> None:
    while True:
        head, body = await peer.read_request()
        await peer.send(json_answer(head + body))


CASES: dict[str, tuple[str, Sequence[str], Attribution]] = {
    "nobody said": (URL, (), Attribution(project="static", tags={"tier": "gold"})),
    "trusted headers fill what is open": (
        URL,
        ("x-team: research", "X-PROJECT: mine", "x-feature:  chat ", "x-team: second"),
        Attribution(team="research", project="static", tags={"tier": "gold", "feature": "chat"}),
    ),
    "key wins over headers": (
        URL,
        (f"X-Metering-Key: {SECRET}", "x-team: research"),
        Attribution(
            credential_id="search-prod", team="search", principal="api", project="static", tags={"tier": "gold"}
        ),
    ),
    "key in the path": (
        f"/k/{SECRET}{URL}",
        (),
        Attribution(
            credential_id="search-prod", team="search", principal="api", project="static", tags={"tier": "gold"}
        ),
    ),
    "the same key twice": (
        f"/k/{SECRET}{URL}",
        (f"x-metering-key: {SECRET}",),
        Attribution(
            credential_id="search-prod", team="search", principal="api", project="static", tags={"tier": "gold"}
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attribution(tmp_path: Path, name: str) -> None:
    path, headers, expected = CASES[name]

    async def test() -> None:
        async with relaying(tmp_path, echo, route=TRUSTING) as rig:
            peer = await rig.connect()
            await peer.send(post(path, CHAT, *headers, "X-Metering-Team: forged", "X-Kept: 1"))
            _, seen = await peer.read_answer()
            assert seen.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
            assert b"X-Kept: 1" in seen
            for word in (b"metering", b"x-team", b"x-project", b"x-feature", b"mk_test"):
                assert word not in seen.lower()
            assert (await rig.final()).attribution == expected

    run(test())


REFUSED = {
    "unknown key": (URL, f"x-metering-key: {OTHER}", b"not known here"),
    "unknown key in the path": (f"/k/{OTHER}{URL}", "X: 1", b"not known here"),
    "typo": (URL, f"x-metering-key: {TYPO}", b"malformed"),
    "empty key": (URL, "x-metering-key:", b"malformed"),
    "no key in the path": ("/k//openai/v1/x", "X: 1", b"malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_keys_are_401_and_never_forwarded(tmp_path: Path, name: str) -> None:
    path, header, sentence = REFUSED[name]

    async def test() -> None:
        async with relaying(tmp_path, echo, route=KEYS) as rig:
            answer, _ = await rig.ask(post(path, CHAT, header))
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert sentence in answer
            assert SECRET.encode() not in answer
            assert not rig.upstream.peers
            assert not rig.records()

    run(test())


def test_headers_are_not_trusted_where_the_route_does_not_say_so(tmp_path: Path) -> None:
    other = (
        '[[route]]\npath = "/trusting"\nupstream = "http://a"\nprovider = "x"\ntrusted_headers = { team = "x-team" }'
    )

    async def test() -> None:
        async with relaying(tmp_path, echo, route=other) as rig:
            peer = await rig.connect()
            await peer.send(post(URL, CHAT, "x-team: forged"))
            _, seen = await peer.read_answer()
            assert b"\r\nx-team: forged\r\n" in seen  # to this route a header like any other
            assert (await rig.final()).attribution == Attribution()

    run(test())


def test_unserved_paths_are_404(tmp_path: Path) -> None:
    async def test() -> None:
        async with relaying(tmp_path, echo) as rig:
            for path in ("/", "/openaix/v1", "/other", "/OPENAI/v1", "//openai"):
                answer, _ = await rig.ask(post(path))
                assert answer.startswith(b"HTTP/1.1 404 ")
                assert b"check the base URL" in answer

    run(test())


ROUTES = """
[[route]]
path = "/openai/eu"
upstream = "http://eu/base"
provider = "openai"
[[route]]
path = "/"
upstream = "http://all"
provider = "other"
[[route]]
host = "models.internal"
upstream = "http://[::1]:9/v1"
provider = "vllm"
"""


@pytest.mark.parametrize(
    ("path", "host", "provider", "target"),
    [
        ("/openai/v1/x", "a", "openai", "/v1/x"),
        ("/openai", "a", "openai", "/"),
        ("/openai/", "a", "openai", "/"),
        ("/openai/eu/v1/x", "a", "openai", "/base/v1/x"),
        ("/openai/eu", "a", "openai", "/base"),
        ("/openai/eux", "a", "openai", "/eux"),
        ("/openaix", "a", "other", "/openaix"),
        ("/v1/x", "models.internal", "vllm", "/v1/v1/x"),
        ("/openai/v1/x", "models.internal", "openai", "/v1/x"),
        ("/a%2Fb//c", "a", "other", "/a%2Fb//c"),
    ],
)
def test_longest_prefix_wins_on_a_segment_boundary(
    tmp_path: Path, path: str, host: str, provider: str, target: str
) -> None:
    config = make_config(tmp_path, "http://one", route=ROUTES)
    route = RouteTable(config.routes, config.keys).match(path.encode(), host.encode())
    assert route is not None
    assert route.config.provider == provider
    assert route.upstream_target(path.encode(), b"?q") == f"{target}?q".encode()


def test_labels_from_headers_are_bounded_text() -> None:
    assert read_label("  Zürich ".encode()) == "Zürich"
    assert read_label(b"caf\xe9") == "café"
    assert read_label(b"  ") is None
    assert read_label(b"x" * 1000) == "x" * 256
