"""Routes that sign: boto3 through the sidecar to a server that recomputes each signature in its own way."""

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from metering.core.event import Outcome
from metering.errors import ConfigError
from metering.sidecar.config import parse_config
from metering.sidecar.relay.aws_signing import RENEWED_SECONDS
from metering.sidecar.relay.routes import RouteTable
from tests.sidecar.aws_world import REGION, Cloud
from tests.sidecar.rig import Rig, chunk, get, json_answer, post, relaying, run, until

ROUTES = """
[[route]]
path = "/bedrock"
upstream = "http://localhost:{port}"
provider = "bedrock"
region = "eu-west-1"
sign = "aws"
[[route]]
path = "/sagemaker"
upstream = "http://127.0.0.1:{port}/base"
provider = "sagemaker"
sign = "aws"
sign_service = "sagemaker"
sign_region = "eu-west-1"
sign_profile = "other"
[[route]]
path = "/mantle"
upstream = "http://localhost:{port}/openai"
provider = "bedrock"
region = "eu-west-1"
sign = "aws"
ask_usage = "on"
[[route]]
path = "/plain"
upstream = "http://localhost:{port}"
provider = "bedrock"
"""
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-v1:0"
MESSAGES: Any = [{"role": "user", "content": [{"text": "hi"}]}]


def write_identity(path: Path, key: str, secret: str, more: str = "") -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n{more}\n")


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the sidecar's identity is in; nothing else of this machine's is looked at."""
    path = tmp_path / "credentials"
    other = "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s2\naws_session_token = t2\n"
    write_identity(path, "AKIASIDECAR", "wJalrXUtnFEMI", other)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return path


def signing(tmp_path: Path, cloud: Cloud, config: str = "") -> Any:
    return relaying(tmp_path, cloud.serve, config=config, routes=lambda port: ROUTES.format(port=port))


def sdk(rig: Rig, service: str, route: str, **options: Any) -> Any:
    """A client with credentials of its own, which AWS does not know."""
    return boto3.client(
        service,
        region_name="us-west-2",
        endpoint_url=f"http://127.0.0.1:{rig.port}{route}",
        aws_access_key_id="AKIACLIENT",
        aws_secret_access_key="clients",
        aws_session_token="clients",
        config=Config(connect_timeout=5, read_timeout=5, **{"retries": {"total_max_attempts": 1}, **options}),
    )


def converse(client: Any, model: str = CLAUDE) -> Any:
    said = client.converse(modelId=model, messages=MESSAGES)
    return said["output"]["message"]["content"][0]["text"], said["usage"]["outputTokens"]


def converse_stream(client: Any) -> Any:
    return [next(iter(event)) for event in client.converse_stream(modelId=PROFILE, messages=MESSAGES)["stream"]]


def invoke(client: Any) -> Any:
    return json.load(client.invoke_model(modelId=PROFILE, body=b'{"prompt":"\xff"}', accept="*/*")["body"])


ENCODED = b"/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.anthropic.claude-v1%3A0"
CALLS: dict[str, tuple[Callable[[Any], Any], Any, bytes]] = {
    "converse": (converse, ("hello", 5), b"/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse"),
    "stream": (
        converse_stream, ["messageStart", "contentBlockDelta", "messageStop", "metadata"],
        ENCODED + b"/converse-stream",
    ),
    "invoke": (
        invoke, {"generation": "hello"},
        ENCODED + b"/invoke",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("name", CALLS)
def test_bedrock_is_signed_anew(tmp_path: Path, name: str) -> None:
    call, expected, target = CALLS[name]
    cloud = Cloud()

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = sdk(rig, "bedrock-runtime", "/bedrock")
            for _ in range(3):
                assert await asyncio.to_thread(call, client) == expected
            assert not cloud.refused
            assert len(rig.upstream.peers) == 1
            service, head, body = cloud.asked[0]
            assert service == "bedrock"
            assert head.split(b" ")[1] == target
            assert b"AKIACLIENT" not in head
            assert b"clients" not in head
            assert b"amz-sdk-invocation-id" in head
            assert body == (b'{"prompt":"\xff"}' if name == "invoke" else body)
            await rig.final(3)
            assert [row.outcome for row in rig.records()] == [Outcome.COMPLETED] * 3
            with pytest.raises(ClientError, match="UnrecognizedClient"):  # the same without `sign`
                await asyncio.to_thread(call, sdk(rig, "bedrock-runtime", "/plain"))

    run(test(), 30)


@pytest.mark.usefixtures("identity")
def test_sagemaker_is_signed_with_its_profile(tmp_path: Path) -> None:
    cloud = Cloud()
    cloud.secrets = {"AKIAOTHER": ("s2", "t2")}

    def call(client: Any) -> Any:
        return client.invoke_endpoint(EndpointName="mine", Body=b"\x00\xff", CustomAttributes="a  b", TargetModel="m")

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            said = await asyncio.to_thread(call, sdk(rig, "sagemaker-runtime", "/sagemaker"))
            assert json.load(said["Body"]) == {"predictions": [1]}
            service, head, body = cloud.asked[0]
            assert (service, body) == ("sagemaker", b"\x00\xff")
            assert head.startswith(b"POST /base/endpoints/mine/invocations HTTP/1.1\r\n")
            assert b"\r\nX-Amz-Security-Token: t2\r\n" in head

    run(test(), 30)


@pytest.mark.usefixtures("identity")
def test_an_sdks_retries_are_calls_of_their_own(tmp_path: Path) -> None:
    cloud = Cloud()
    cloud.failures = [
        json_answer(b'{"message":"slow down"}', "x-amzn-ErrorType: ThrottlingException", status="429 No"),
        json_answer(b'{"message":"oh"}', "x-amzn-ErrorType: InternalServerException", status="500 No"),
    ]

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = sdk(rig, "bedrock-runtime", "/bedrock", retries={"total_max_attempts": 3, "mode": "standard"})
            assert await asyncio.to_thread(converse, client) == ("hello", 5)
            await rig.final(3)
            assert [(row.status, row.attempt) for row in rig.records()] == [(429, 0), (500, 1), (200, 2)]
            assert not cloud.refused

    run(test(), 60)


def test_an_expired_identity_is_looked_for_anew(tmp_path: Path, identity: Path) -> None:
    """The client hears what AWS says; its next call has what the file holds by then."""
    cloud = Cloud()
    cloud.expired = {"AKIASIDECAR"}
    cloud.secrets["AKIANEW"] = ("new", "token")

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = sdk(rig, "bedrock-runtime", "/bedrock")
            with pytest.raises(ClientError, match="ExpiredToken"):
                await asyncio.to_thread(converse, client)
            write_identity(identity, "AKIANEW", "new", "aws_session_token = token")
            with pytest.raises(ClientError, match="ExpiredToken"):  # not looked for at every call
                await asyncio.to_thread(converse, client)
            for signer in rig.relay.signers.values():
                signer._found_at -= RENEWED_SECONDS
            with pytest.raises(ClientError, match="ExpiredToken"):
                await asyncio.to_thread(converse, client)
            assert await asyncio.to_thread(converse, client) == ("hello", 5)
            await rig.final(4)
            assert [row.outcome for row in rig.records()] == [Outcome.FAILED] * 3 + [Outcome.COMPLETED]

    run(test(), 30)


PROCESS = """
import datetime, json, pathlib, time
folder = pathlib.Path({folder!r})
count = len(list(folder.glob("asked-*")))
(folder / f"asked-{{count}}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
print(json.dumps({{"Version": 1, "AccessKeyId": f"AKIA{{count}}", "SecretAccessKey": "s", "SessionToken": "t",
                   "Expiration": ends.isoformat()}}))
"""


def test_credentials_are_refreshed_without_holding_others_up(tmp_path: Path, identity: Path) -> None:
    """They end within minutes, so botocore asks anew each time; while it waits for them another route goes on."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS.format(folder=str(tmp_path)))
    identity.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    cloud = Cloud()
    cloud.secrets = {f"AKIA{number}": ("s", "t") for number in range(9)}

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client, plain = await rig.connect(), await rig.connect()
            await client.send(post("/bedrock/model/a/invoke", b"{}"))
            await until((tmp_path / "asked-0").exists)
            await plain.send(post("/plain/model/a/invoke", b"{}"))
            assert b"403 Forbidden" in (await plain.read_answer())[0]
            assert not cloud.asked
            (tmp_path / "go").touch()
            assert b"200 OK" in (await client.read_answer())[0]
            await client.send(post("/bedrock/model/a/invoke", b"{}"))
            assert b"200 OK" in (await client.read_answer())[0]
            used = [head.partition(b"Credential=")[2].partition(b"/")[0] for _, head, _ in cloud.asked]
            assert used[0] != used[1]

    run(test(), 30)


@pytest.mark.parametrize("trouble", ["nothing there", "no such profile", "a broken process"])
def test_without_an_identity_a_call_is_refused_and_nothing_is_told(
    tmp_path: Path, identity: Path, trouble: str, capfd: pytest.CaptureFixture[str]
) -> None:
    identity.write_text("")
    route = "/sagemaker" if trouble == "no such profile" else "/bedrock"
    if trouble == "a broken process":
        identity.write_text("[default]\ncredential_process = sh -c 'echo hush-secret >&2; exit 1'\n")
    cloud = Cloud()

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = await rig.connect()
            for _ in range(2):
                await client.send(post(f"{route}/model/a/invoke", b"{}"))
                head, body = await client.read_answer()
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"no AWS credentials" in body
            assert not rig.upstream.peers
            assert not rig.records("O")
            assert rig.relay.tally.refused_requests == 2
            write_identity(identity, "AKIASIDECAR", "wJalrXUtnFEMI")
            if route == "/bedrock":  # it is there now
                await client.send(post(f"{route}/model/a/invoke", b"{}"))
                assert (await client.read_answer())[0].startswith(b"HTTP/1.1 200 ")

    run(test(), 30)
    said = capfd.readouterr().err
    assert said.count('"signing_failed"') == 1  # once a second
    assert "hush-secret" not in said


@pytest.mark.usefixtures("identity")
def test_a_request_is_held_until_it_is_whole(tmp_path: Path) -> None:
    """In pieces, in chunks, with `Expect`, without a body; larger than may be held it is refused."""
    body = bytes(range(256)) * 4
    head = b"POST /bedrock/model/a/invoke?b=2&a=%2F HTTP/1.1\r\nHost: x\r\nX-Amz-Meta:  a   b \r\n"
    framed = head + b"Transfer-Encoding: chunked\r\nauthorization: Bearer hush\r\n\r\n"
    cloud = Cloud()

    async def test() -> None:
        async with signing(tmp_path, cloud, "[limits]\nsign_body_bytes = 1100") as rig:
            client = await rig.connect()
            await client.send(framed + chunk(body[:9]), chunk(body[9:]) + b"0\r\nX-Sum: 1\r\n\r\n", pause=0.02)
            assert b"200 OK" in (await client.read_answer())[0]
            expecting = head + b"EXPECT: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            await client.send(expecting)
            assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await asyncio.sleep(0.15)  # three sweeps
            await client.send(body[:500], body[500:], pause=0.02)
            assert b"200 OK" in (await client.read_answer())[0]
            await client.send(get("/bedrock/models"))
            assert b"200 OK" in (await client.read_answer())[0]
            assert [body for _, _, body in cloud.asked] == [body, body, b""]
            assert not cloud.refused
            for _, sent, _ in cloud.asked[:2]:
                assert b"\r\nContent-Length: %d\r\n" % len(body) in sent
                assert b"\r\nX-Amz-Meta:  a   b \r\n" in sent
                assert not {b"expect", b"transfer-encoding"} & {
                    line.partition(b":")[0].lower() for line in sent.split(b"\r\n")
                }
                assert b"hush" not in sent
            assert [row.request_bytes for row in rig.records()][1:] == [len(body), 0]
            for large in (post("/bedrock/model/a/invoke", body * 2), framed + chunk(body * 2)):
                client = await rig.connect()
                await client.send(large)
                refusal = (await client.read_rest())[0]
                assert refusal.startswith(b"HTTP/1.1 413 ")
                assert b"larger than the 1100 bytes" in refusal
            assert len(cloud.asked) == 3
            assert len(rig.records("O")) == 3

    run(test(), 30)


@pytest.mark.usefixtures("identity")
def test_what_is_asked_for_is_signed_too_and_its_repetition(tmp_path: Path) -> None:
    cloud = Cloud()
    asked = json.dumps({"model": "openai.gpt-oss-20b", "stream": True}).encode()

    def answer(_: str, head: bytes) -> bytes:
        asking = head.partition(b"Content-Length: ")[2].split(b"\r\n")[0] != b"%d" % len(asked)
        return json_answer(b"{}", status="400 No") if asking else json_answer()

    cloud.answer = answer

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = await rig.connect()
            await client.send(post("/mantle/v1/chat/completions", asked))
            assert b"200 OK" in (await client.read_answer())[0]
            assert [b"include_usage" in body for _, _, body in cloud.asked] == [True, False]
            assert not cloud.refused
            assert (await rig.final()).status == 200
            await client.send(post("/mantle/v1/chat/completions", gzip.compress(asked), "Content-Encoding: gzip"))
            await client.read_answer()
            assert not cloud.refused

    run(test(), 30)


@pytest.mark.usefixtures("identity")
def test_a_client_that_leaves_before_the_signature_leaves_nothing(tmp_path: Path, identity: Path) -> None:
    script = tmp_path / "process.py"
    script.write_text(PROCESS.format(folder=str(tmp_path)))
    identity.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    cloud = Cloud()

    async def test() -> None:
        async with signing(tmp_path, cloud) as rig:
            client = await rig.connect()
            await client.send(post("/bedrock/model/a/invoke", b"{}"))
            await until((tmp_path / "asked-0").exists)
            client.reset()
            await until(lambda: not rig.relay.count().client_connections)
            (tmp_path / "go").touch()
            await asyncio.to_thread(rig.relay.signers[next(iter(rig.relay.signers))].threads.shutdown)
            await asyncio.sleep(0)
            assert not rig.records("O")
            assert not rig.upstream.peers

    run(test(), 30)


ROUTE = f'[[route]]\npath = "/a"\nupstream = "http://a"\nprovider = "bedrock"\nregion = "{REGION}"\nsign = "aws"\n'


def test_a_route_that_signs_says_for_what(tmp_path: Path) -> None:
    (route,) = parse_config(ROUTE + 'sign_profile = "p"\nsign_service = "sagemaker"', tmp_path).routes
    assert route.sign is not None
    assert (route.sign.service, route.sign.region, route.sign.profile) == ("sagemaker", REGION, "p")
    for text, sentence in (
        (ROUTE.replace("region", "#"), "[[route]] 1 has no region, which is part of an AWS signature"),
        (ROUTE.replace('"aws"', '"gcp"'), "sign must be 'off' or 'aws'"),
        (ROUTE.replace('"aws"', '"off"') + 'sign_profile = "p"', "unknown key 'sign_profile'"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config(text, tmp_path)
        assert sentence in str(caught.value)


def test_botocore_is_missed_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(ROUTE, tmp_path)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "botocore", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'metering\[aws\]'"):
        RouteTable(config.routes, config.keys)


def test_a_worker_that_does_not_sign_does_not_import_botocore(tmp_path: Path) -> None:
    opens = "import sys; from pathlib import Path; from tests.sidecar.rig import make_config; "
    opens += "from metering.sidecar.relay.relay import Relay; import metering.sidecar.worker; "
    opens += (
        "config = make_config(Path(sys.argv[1]), 'http://a'); Relay(config, None); assert 'botocore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", opens, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
