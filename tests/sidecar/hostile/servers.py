"""Real HTTP servers as the upstream: each answers with what it takes a request for, and counts what it saw.

An answer's body is a line: method, target, length of the body.
"""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web

Count = Callable[[], int]  # of the requests a server saw

# The outer server reads the whole body and hands it on with a length; the inner one tells it.
NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/a;
  uwsgi_temp_path {folder}/b; scgi_temp_path {folder}/c; access_log off;
  log_format seen "$request_method $request_uri $content_length";
  map $content_length $length {{ default $content_length; "" 0; }}
  server {{
    listen unix:{folder}/inner; access_log {folder}/seen.log seen; default_type text/plain;
    location / {{ return 200 "$request_method $request_uri $length\\n"; }}
  }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://unix:{folder}/inner:$request_uri; }} }}
}}
"""


@contextlib.asynccontextmanager
async def aiohttp_server(folder: Path) -> AsyncIterator[tuple[int, Count]]:
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        line = f"{request.method} {request.raw_path} {len(await request.read())}\n"
        seen.append(line)
        return web.Response(text=line)

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], lambda: len(seen)
    finally:
        await runner.cleanup()


def uvicorn_server(http: Any) -> Callable[[Path], contextlib.AbstractAsyncContextManager[tuple[int, Count]]]:
    """`http`: the parser it reads with."""

    @contextlib.asynccontextmanager
    async def serving(folder: Path) -> AsyncIterator[tuple[int, Count]]:
        seen: list[str] = []

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            length, more = 0, True
            while more:
                message = await receive()
                length, more = length + len(message.get("body", b"")), message.get("more_body", False)
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            line = f"{scope['method']} {(scope['raw_path'] + query).decode()} {length}\n"
            seen.append(line)
            headers = [(b"content-length", b"%d" % len(line))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": line.encode()})

        server = uvicorn.Server(
            uvicorn.Config(answer, port=0, http=http, lifespan="off", ws="none", log_level="critical")
        )
        running = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - it tells by nothing else
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1], lambda: len(seen)
        finally:
            server.should_exit = True
            await running

    return serving


@contextlib.asynccontextmanager
async def nginx_server(folder: Path) -> AsyncIterator[tuple[int, Count]]:
    port = _free_port()
    config, log = folder / "nginx.conf", folder / "seen.log"
    config.write_text(NGINX.format(folder=folder, port=port))
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
    nginx = await asyncio.create_subprocess_exec(program, "-c", str(config), "-e", str(folder / "error.log"))
    try:
        while not (folder / "pid").exists():  # written once it listens
            assert nginx.returncode is None, (folder / "error.log").read_text()
            await asyncio.sleep(0.02)
        yield port, lambda: len(log.read_text().splitlines())
    finally:
        nginx.terminate()
        await nginx.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


SERVERS = {
    "aiohttp": aiohttp_server,
    "uvicorn-httptools": uvicorn_server("httptools"),
    "uvicorn-h11": uvicorn_server("h11"),
    "nginx": nginx_server,
}
