"""Where a call goes is the configuration's word alone: nothing a request says reaches another server."""

from pathlib import Path

import pytest

from tests.sidecar.hostile.case import bare, get
from tests.sidecar.rig import ANSWER, Peer, Upstream, json_answer, relaying, run, serve

_HEADERS = (
    b"X-Forwarded-Host",
    b"X-Forwarded-Server",
    b"X-Forwarded-For",
    b"X-Host",
    b"X-Original-Host",
    b"X-HTTP-Host-Override",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"X-Upstream",
    b"X-Target",
    b"X-Base-URL",
    b"X-Portkey-Custom-Host",
    b"Helicone-Target-URL",
    b"Location",
    b"Referer",
    b"Origin",
    b"Destination",
)
_RESTS = (
    b"//%s/x",
    b"/http://%s/x",
    b"/@%s/x",
    b":@%s/x",
    b"@%s/x",
    b"/x?url=http://%s/",
    b"/%%2f%s/x",
    b"/..//%s/x",
)
SAYS = {
    "Host": [bare(b"Host: %s", b"Connection: close")],
    "absolute-form": [
        get(b"Connection: close", target=b"http://%s/openai/x"),
        get(b"Connection: close", target=b"https://%s/openai/x"),
        bare(start=b"GET http://%s/openai/x HTTP/1.0"),
    ],
    "forwarding headers": [
        get(b"Connection: close", line)
        for name in _HEADERS
        for line in (name + b": %s", name + b": http://%s/x", b"Forwarded: host=%s;for=%s")
    ],
    "path": [
        *(get(b"Connection: close", target=b"/openai" + rest) for rest in _RESTS),
        *(get(b"Connection: close", target=target) for target in (b"//%s/openai/x", b"/http://%s/openai/x", b"%s")),
    ],
    "body": [
        b"POST /openai/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for body in (b'{"api_base":"http://%s","base_url":"http://%s","user_config":{"api_base":"http://%s"}}',)
    ],
    "a tunnel": [b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n"],
}


@pytest.mark.parametrize("what", SAYS)
def test_no_word_of_a_request_changes_its_destination(tmp_path: Path, what: str) -> None:
    """`%s` is a listening server that nobody configured. The sidecar's own answers, too, say nothing of it."""
    hosts: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            head, _ = await peer.read_request()
            hosts.append(head.lower().partition(b"\r\nhost: ")[2].partition(b"\r\n")[0])
            await peer.send(json_answer())

    async def test() -> None:
        elsewhere = Upstream(serve(json_answer(b"elsewhere")))
        await elsewhere.start()
        async with relaying(tmp_path, script) as rig:
            place = b"127.0.0.1:%d" % elsewhere.port
            for raw in SAYS[what]:
                answer, _ = await rig.ask(raw.replace(b"%s", place).replace(b"%%", b"%"))
                assert answer.endswith(ANSWER) or answer[9:12] in (b"400", b"404", b"405"), answer
                assert place not in answer
            assert set(hosts) <= {b"localhost:%d" % rig.upstream.port}
        await elsewhere.stop()
        assert not elsewhere.peers

    run(test())


def test_a_redirect_is_the_clients_to_follow(tmp_path: Path) -> None:
    async def test() -> None:
        elsewhere = Upstream(serve(json_answer(b"elsewhere")))
        await elsewhere.start()
        redirect = json_answer(b"{}", f"Location: http://127.0.0.1:{elsewhere.port}/", status="307 Temporary Redirect")
        async with relaying(tmp_path, serve(redirect)) as rig:
            assert (await rig.ask(get(b"Connection: close")))[0].startswith(b"HTTP/1.1 307 ")
        await elsewhere.stop()
        assert not elsewhere.peers

    run(test())
