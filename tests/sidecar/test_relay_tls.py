"""TLS to the upstream: trusted by `ca_file`, refused without it, ALPN http/1.1."""

import ssl
from pathlib import Path

import pytest

from metering.core.event import Outcome
from metering.core.usage import UsageSource
from metering.errors import ConfigError
from metering.sidecar.relay.routes import RouteTable
from tests.sidecar.rig import ANSWER, Peer, json_answer, make_config, post, relaying, run, serve, stream_answer, until


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def test_tls_upstream(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    protocols: list[str | None] = []

    async def script(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await serve(*stream_answer(), pause=0.002)(peer)

    async def test() -> None:
        async with relaying(
            tmp_path, script, route=f'ca_file = "{certificate[0]}"', ssl=server_context(certificate)
        ) as rig:
            peer = await rig.connect()
            for number in range(1, 3):
                await peer.send(post())
                head, body = await peer.read_answer()
                assert (head + body) == b"".join(stream_answer())
                assert (await rig.final(number)).usage_source is UsageSource.REPORTED
            assert protocols == ["http/1.1"]  # one connection for both

    run(test())


def test_what_an_idle_connection_has_sent_is_known(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """So that a request which meets its end can be told from one that somebody got."""

    async def test() -> None:
        async with relaying(
            tmp_path, serve(json_answer()), route=f'ca_file = "{certificate[0]}"', ssl=server_context(certificate)
        ) as rig:
            peer = await rig.connect()
            await peer.send(post())
            await peer.read_answer()
            (pool,) = rig.relay.pools.values()
            (connection,) = pool._idle
            assert not connection.took_nothing()  # not known yet
            await until(lambda: connection.idle_sweeps)
            assert connection.took_nothing()
            await peer.send(post())
            await peer.read_answer()
            assert not connection.took_nothing()

    run(test())


def test_untrusted_certificate_is_a_clear_502(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    async def test() -> None:
        async with relaying(tmp_path, serve(json_answer()), ssl=server_context(certificate)) as rig:
            peer = await rig.connect()
            await peer.send(post())
            head, body = await peer.read_answer()
            assert head.startswith(b"HTTP/1.1 502 ")
            assert b"certificate that is not trusted; set ca_file" in body
            assert (await rig.final()).outcome is Outcome.FAILED

    run(test())


def test_large_answer_over_tls_to_a_slow_reader(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    body = ANSWER.replace(b"hello", b"x" * 5_000_000)

    async def test() -> None:
        async with relaying(
            tmp_path, serve(json_answer(body)), route=f'ca_file = "{certificate[0]}"', ssl=server_context(certificate)
        ) as rig:
            peer = await rig.connect(limit=1000)
            await peer.send(post())
            assert (await peer.read_answer())[1] == body
            assert (await rig.final()).usage_source is UsageSource.REPORTED

    run(test())


def test_ca_file_without_certificates(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    config = make_config(tmp_path, "https://a", route=f'ca_file = "{empty}"')
    with pytest.raises(ConfigError, match="holds no usable certificates"):
        RouteTable(config.routes, config.keys)
