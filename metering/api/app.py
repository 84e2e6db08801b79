"""The routes. Handlers are plain functions: FastAPI runs them in threads, where the ledger may block."""

from collections.abc import Callable
from typing import Annotated

import msgspec
from fastapi import FastAPI, Query, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from metering.api.access import BearerToken
from metering.api.problems import add_problems, problem
from metering.core.document import statement_values, usage_values
from metering.core.statement import Statement

# What a statement is composed with: a period's name and a grouping's name, as the client wrote them.
StatementSource = Callable[[str, str], Statement]
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


def create_app(compose: StatementSource, check_ready: Callable[[], None], token: BearerToken | None) -> FastAPI:
    """The API over `compose`. `check_ready` raises what keeps it from working; without `token` everybody may ask."""
    app = FastAPI(title="metering", docs_url=None, redoc_url=None)
    add_problems(app)

    @app.middleware("http")
    async def admit(request: Request, call_next: RequestResponseEndpoint) -> Response:
        said = request.headers.get("authorization")
        if token and request.url.path not in OPEN_PATHS and not token.accepts(said):
            challenge = {"www-authenticate": 'Bearer realm="metering"'}
            return problem(401, "send the API's token: Authorization: Bearer TOKEN", **challenge)
        response = await call_next(request)
        response.headers["cache-control"] = "no-store"
        response.headers["x-content-type-options"] = "nosniff"
        return response

    @app.get("/healthz")
    def healthz() -> Response:
        """The process answers."""
        return _json({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        """The ledger answers, too."""
        check_ready()
        return _json({"status": "ready"})

    @app.get("/v1/statements/{period}")
    def statement(period: str, by: Annotated[str, Query()] = "team") -> Response:
        """The statement of a period (2026, 2026-10, 2026-10-05), gathered by `by`. Money is strings."""
        return _json(statement_values(compose(period, by)))

    @app.get("/v1/usage")
    def usage(period: Annotated[str, Query()], by: Annotated[str, Query()] = "team") -> Response:
        """The statement's counts without its money."""
        return _json(usage_values(compose(period, by)))

    return app


def _json(values: object) -> Response:
    return Response(msgspec.json.encode(values), media_type="application/json")
