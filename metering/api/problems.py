"""Errors as RFC 9457 problem documents: the one shape in which the API says no."""

from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from metering.errors import ConfigError, InputError, LedgerError, LedgerUnavailable, MeteringError


def problem(status: int, detail: str, **headers: str) -> Response:
    """A problem body of the general type; `detail` says what to do."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/problem+json")


def add_problems(app: FastAPI) -> None:
    """Turn every error of `app` into a problem body."""
    app.add_exception_handler(MeteringError, _from_metering)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(Exception, _from_bug)


def status_of(error: MeteringError) -> int:
    """The HTTP status of an error raised on purpose."""
    if isinstance(error, ConfigError | InputError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, LedgerUnavailable):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.CONFLICT if isinstance(error, LedgerError) else HTTPStatus.INTERNAL_SERVER_ERROR


def _from_metering(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the framework's signature
    status = status_of(error) if isinstance(error, MeteringError) else HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, str(error))


def _from_validation(request: Request, error: Exception) -> Response:  # noqa: ARG001
    errors = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in errors)
    return problem(HTTPStatus.BAD_REQUEST, said or "the request can't be read")


def _from_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    if status == HTTPStatus.NOT_FOUND:
        return problem(status, f"there is nothing at {request.url.path}: the paths are listed in /openapi.json")
    headers = getattr(error, "headers", None) or {}  # 405 must say what is allowed
    return problem(status, str(getattr(error, "detail", "")), **headers)


def _from_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    # What went wrong is in the server's own log; a stranger needs no stack trace.
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong inside: see the server's log")
