"""The sidecar's file: every mistake is one sentence that says where and what."""

from pathlib import Path

import pytest

from metering.errors import ConfigError
from metering.sidecar.config import Address, Limits, load_config, parse_config
from metering.sidecar.estimate.settings import EstimateConfig
from metering.sidecar.keys import hash_secret, mint_secret, well_formed

STATE = Path("/state")
ROUTE = '[[route]]\npath = "/openai"\nupstream = "https://api.openai.com"\nprovider = "openai"\n'
HASH = "sha256:" + "ab" * 32
KEY = f'[[key]]\nid = "search-prod"\nhash = "{HASH}"\n'

MISTAKES = {
    "": "there is no [[route]]",
    "= 1": "not valid TOML",
    "[sidecar]\nlisen = 'a:1'\n" + ROUTE: "[sidecar]: unknown key 'lisen'; did you mean 'listen'?",
    "[spol]\n" + ROUTE: "the file: unknown key 'spol'; did you mean 'spool'?",
    "sidecar = 1\n" + ROUTE: "[sidecar] must be a table",
    "[route]\npath = '/a'": "write [[route]]",
    "[sidecar]\nlisten = '127.0.0.1'\n" + ROUTE: "listen must be host:port",
    "[sidecar]\nlisten = '127.0.0.1:70000'\n" + ROUTE: "listen must be host:port",
    "[sidecar]\nworkers = 0\n" + ROUTE: "workers must be a whole number of at least 1, not 0",
    "[sidecar]\nworkers = true\n" + ROUTE: "workers must be a whole number",
    "[sidecar]\ndrain_seconds = -1\n" + ROUTE: "drain_seconds must be a positive number of seconds",
    "[sidecar]\ndrain_seconds = nan\n" + ROUTE: "drain_seconds must be a positive number of seconds",
    "[spool]\nmax_bytes = '10 gigs'\n" + ROUTE: 'max_bytes must be a size such as "10GiB"',
    "[spool]\nmax_bytes = '1MiB'\n" + ROUTE: "max_bytes must be at least one segment",
    "[spool]\ndurability = 'none'\n" + ROUTE: "durability must be 'process' or 'power', not 'none'",
    "[spool]\non_full = 'closed'\n" + ROUTE: "on_full must be 'open' or 'refuse'",
    "[limits]\nhead_second = 1\n" + ROUTE: "did you mean 'head_seconds'?",
    ROUTE.replace('upstream = "https://api.openai.com"\n', ""): "[[route]] 1 has no upstream",
    ROUTE.replace('provider = "openai"\n', ""): "[[route]] 1 has no provider",
    ROUTE.replace('path = "/openai"\n', ""): "[[route]] 1 needs either a path",
    ROUTE + 'host = "a"': "[[route]] 1 needs either a path",
    ROUTE.replace("https://api", "ftp://api"): "upstream must be an http:// or https:// URL",
    ROUTE.replace("https://api", "https://user:secret@api"): "upstream must be scheme, host, port and path only",
    ROUTE.replace("openai.com", "openai.com:99999"): "upstream must be an http:// or https:// URL",
    ROUTE.replace('"/openai"', '"openai"'): "path must be a plain path",
    ROUTE.replace('"/openai"', '"/a/../b"'): "path must be a plain path",
    ROUTE.replace('"/openai"', '"/k"'): "is taken by keys",
    ROUTE + ROUTE: "two [[route]]s share path '/openai': keep one",
    ROUTE + 'on_client_abort = "stop"': "on_client_abort must be 'auto' or 'cancel' or 'drain'",
    ROUTE + "ask_usage = true": "ask_usage must be 'off' or 'auto' or 'on', not True",
    ROUTE + "labels = { team = 1 }": "labels.team must be a non-empty string",
    ROUTE + 'trusted_headers = { team = "Host" }': "'Host' can't be used",
    ROUTE + 'trusted_headers = { team = "x team" }': "'x team' can't be used",
    ROUTE + 'ca_file = "/nowhere.pem"': "ca_file '/nowhere.pem' is not a file",
    ROUTE + "regoin = 'a'": "did you mean 'region'?",
    ROUTE + KEY.replace("sha256:", "md5:"): "hash must be sha256: and 64 hex digits",
    ROUTE + KEY.replace('id = "search-prod"\n', ""): "[[key]] 1 has no id",
    ROUTE + KEY + KEY: "two [[key]]s share id 'search-prod'",
    ROUTE + KEY + KEY.replace("search", "other"): "mint one secret a key",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, STATE)
    assert MISTAKES[text] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_defaults() -> None:
    config = parse_config(ROUTE, STATE)
    assert config.listen == Address("127.0.0.1", 8787)
    assert config.admin == Address("127.0.0.1", 8788)
    assert (config.workers, config.drain_seconds) == (1, 30)
    assert (config.spool.dir, config.spool.durability, config.spool.on_full) == (STATE / "spool", "process", "open")
    assert config.spool.max_bytes == 10 * 1024**3
    assert config.limits == Limits()
    route = config.routes[0]
    assert (route.upstream.host, route.upstream.port, route.upstream.tls) == ("api.openai.com", 443, True)
    assert (route.on_client_abort, route.ask_usage) == ("auto", "off")


def test_everything_said() -> None:
    text = f"""
        [sidecar]
        listen = "[::1]:1"
        admin = "off"
        workers = 3
        drain_seconds = 0.5
        [spool]
        dir = "/spool"
        durability = "power"
        max_bytes = "1.5GB"
        on_full = "refuse"
        [limits]
        connections = 5
        head_bytes = "8KiB"
        silence_seconds = 1
        [[route]]
        host = "Models.Internal"
        upstream = "http://localhost:11434/base/"
        provider = "ollama"
        deployment = "gpu-1"
        region = "eu"
        labels = {{ team = "search", tier = "gold" }}
        trusted_headers = {{ project = "X-Project" }}
        on_client_abort = "drain"
        {KEY}
        team = "t"
    """
    config = parse_config(text, STATE)
    assert (config.listen, config.admin, config.workers) == (Address("::1", 1), None, 3)
    assert config.spool.max_bytes == 1_500_000_000
    assert (config.limits.connections, config.limits.head_bytes, config.limits.silence_seconds) == (5, 8192, 1)
    route = config.routes[0]
    assert (route.host, route.upstream.base_path, route.upstream.authority) == (
        "models.internal",
        "/base",
        "localhost:11434",
    )
    assert route.trusted_headers == {"project": "x-project"}
    assert (config.keys[0].id, config.keys[0].team, config.keys[0].digest) == ("search-prod", "t", b"\xab" * 32)


def test_the_example_is_right_and_says_the_defaults() -> None:
    example = Path(__file__).parents[2] / "deploy" / "sidecar.example.toml"
    config = load_config(example, STATE)
    assert config.limits == Limits()
    assert len(config.routes) > 1
    commented = example.read_text()
    for name in (*Limits.__struct_fields__, "listen", "admin", "workers", "drain_seconds", "durability", "on_full",
                 "on_client_abort", "ask_usage", "sign", "sign_service", "sign_region", "sign_profile",
                 "ca_file", "trusted_headers", "labels", "region", "host", "estimate", "tokenize",
                 *(set(EstimateConfig.__struct_fields__) - {"tokenizers"})):  # fmt: skip
        assert f"{name} =" in commented


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        load_config(tmp_path / "none.toml", STATE)


def test_secrets_are_checked_before_they_are_looked_up() -> None:
    secret = mint_secret("live").encode()
    assert well_formed(secret)
    assert len(hash_secret(secret)) == 32
    assert mint_secret("live").encode() != secret
    for position in range(len(secret)):
        wrong = b"A" if secret[position : position + 1] != b"A" else b"B"
        assert not well_formed(secret[:position] + wrong + secret[position + 1 :])
    for other in (b"", b"mk_live_", secret[:-1], secret + b"0", secret.upper(), secret + b"\n"):
        assert not well_formed(other)


def test_secret_wants_a_plain_word() -> None:
    with pytest.raises(ValueError, match="can't be in a key"):
        mint_secret("Live!")
