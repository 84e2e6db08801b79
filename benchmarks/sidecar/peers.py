"""Gateways of others beside the sidecar, where they are installed: `--peers-dir` names the folder.

    python3 -m venv DIR/litellm && DIR/litellm/bin/pip install 'litellm[proxy]==1.98.0'
    python3 -m venv DIR/tensorzero && DIR/tensorzero/bin/pip install tensorzero==2026.6.0
    npm install --prefix DIR/portkey --ignore-scripts @portkey-ai/gateway@1.15.2

(Portkey wants `"overrides": {"@hono/node-server": "1.14.0"}` in its package.json.) None of them counts anything
here: without a database they answer as fast as they can.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.sidecar.contestants import START_SECONDS, CaseFailed, Contestant, Site, running
from benchmarks.sidecar.gauge import family
from metering.lab.programs import free_port

LITELLM_CONFIG = """
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{ model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-none }}
litellm_settings: {{ num_retries: 0, telemetry: false }}
general_settings: {{ master_key: {key} }}
"""
LITELLM_KEY = "sk-benchmark"
TENSORZERO_CONFIG = """
[gateway]
observability.enabled = false
[models.gpt-4o-mini]
routing = ["emulated"]
[models.gpt-4o-mini.providers.emulated]
type = "openai"
model_name = "gpt-4o-mini"
api_base = "http://127.0.0.1:{upstream}/v1/"
api_key_location = "none"
"""
# The gateway comes as a Python extension, which starts it on a port of its own choice.
TENSORZERO_PROGRAM = """
import asyncio, pathlib, sys
from tensorzero.tensorzero import _start_http_gateway
async def main():
    gateway = _start_http_gateway(
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    pathlib.Path(sys.argv[2]).write_text(gateway.base_url)
    await asyncio.Event().wait()
asyncio.run(main())
"""
PLACES = {
    "litellm": "litellm/bin/litellm",
    "portkey": "portkey/node_modules/@portkey-ai/gateway/build/start-server.js",
    "tensorzero": "tensorzero/bin/python",
}


def find_peers(folder: Path) -> dict[str, Path]:
    """Name → the file that starts it, of those that are there."""
    found = {name: folder.absolute() / place for name, place in PLACES.items()}
    if shutil.which("node") is None:
        del found["portkey"]
    return {name: program for name, program in found.items() if program.exists()}


def peer(name: str, program: Path, site: Site) -> AbstractContextManager[Contestant]:
    """One of them, running."""
    folder = site.folder / name
    folder.mkdir()
    return {"litellm": _litellm, "portkey": _portkey, "tensorzero": _tensorzero}[name](program, site, folder)


@contextmanager
def _litellm(program: Path, site: Site, folder: Path) -> Iterator[Contestant]:
    config, port = folder / "litellm.yaml", free_port()
    config.write_text(LITELLM_CONFIG.format(upstream=site.upstream, key=LITELLM_KEY), encoding="utf-8")
    environ = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # else it asks the internet for prices
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with running(command, site.proxy_cores, folder / "out.log", port=port, environ=environ) as pid:
        yield Contestant(
            port=port,
            path="/v1/chat/completions",
            headers={"Authorization": f"Bearer {LITELLM_KEY}"},
            pids={"proxy": family(pid)},
        )


@contextmanager
def _portkey(program: Path, site: Site, folder: Path) -> Iterator[Contestant]:
    port = free_port()
    command = ["node", str(program), f"--port={port}", "--headless"]
    with running(command, site.proxy_cores, folder / "out.log", port=port) as pid:
        yield Contestant(
            port=port,
            path="/v1/chat/completions",
            headers={
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"http://127.0.0.1:{site.upstream}/v1",
            },
            pids={"proxy": family(pid)},
        )


@contextmanager
def _tensorzero(program: Path, site: Site, folder: Path) -> Iterator[Contestant]:
    config, told = folder / "tensorzero.toml", folder / "url"
    config.write_text(TENSORZERO_CONFIG.format(upstream=site.upstream), encoding="utf-8")
    command = [str(program), "-c", TENSORZERO_PROGRAM, str(config), str(told)]
    with running(command, site.proxy_cores, folder / "out.log") as pid:
        yield Contestant(
            port=_wait_for_port(told, folder / "out.log"),
            path="/openai/v1/chat/completions",
            model="tensorzero::model_name::gpt-4o-mini",
            pids={"proxy": family(pid)},
        )


def _wait_for_port(told: Path, log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if told.exists() and (url := told.read_text(encoding="utf-8")):
            return int(url.split(":")[2].partition("/")[0])
        time.sleep(0.05)
    raise CaseFailed(f"TensorZero does not start: {log.read_text(errors='replace')[-500:]}")
