"""From method and path to `Operation`: the routes of all dialects, matched by the end of the path."""

from urllib.parse import unquote

import msgspec

from metering.core.dialects.counts import word
from metering.core.dialects.dialect import Dialect, Route
from metering.core.dialects.quirks import TABLE
from metering.core.dialects.reading import IDLE_OPERATION, UNKNOWN_OPERATION, Operation
from metering.core.dialects.table import ROUTED

MODEL, PART, ID = "{model}", "{part}", "{id}"
# Methods that ask, remove or list; no model runs for them whatever the path.
IDLE_METHODS = frozenset({"HEAD", "OPTIONS", "DELETE"})


class _Choice(msgspec.Struct, frozen=True):
    """A route as `classify` needs it."""

    segments: tuple[str, ...]
    route: Route
    operation: Operation


def _key(segment: str) -> str:
    """What of a route's last segment a request's must equal: all of it, the verb, or nothing (`*`)."""
    if segment.startswith(MODEL):
        return segment.removeprefix(MODEL) or "*"
    return "*" if segment == ID else segment


def _by_last_segment() -> dict[tuple[str, str], list[_Choice]]:
    """The table by method and last segment.

    The longest path first, then the one with the most words of its own, then the one of some providers only.
    """
    choices = [
        _Choice(route.segments, route, _operation(dialect, route)) for dialect in ROUTED for route in dialect.routes
    ]
    choices.sort(key=lambda choice: (-len(choice.segments), _wild(choice.segments), not choice.route.at))
    table: dict[tuple[str, str], list[_Choice]] = {}
    for choice in choices:
        table.setdefault((choice.route.method, _key(choice.segments[-1])), []).append(choice)
    return table


def _wild(segments: tuple[str, ...]) -> int:
    return sum(segment == "*" or "{" in segment for segment in segments)


def _operation(dialect: Dialect, route: Route) -> Operation:
    operation = msgspec.structs.replace(dialect.operation, model_parameter=route.query)
    return msgspec.structs.replace(operation, consumes=None) if route.looks else operation


_TABLE = _by_last_segment()


def classify(method: str, path: str, provider: str = "") -> Operation:
    """What a request is, from its method and path (the route's prefix stripped; a query string may follow).

    `provider` is the route's; some share paths with others' dialects (`Route.at`, `Route.not_at`).
    """
    method = method.upper()
    if method in IDLE_METHODS:
        return IDLE_OPERATION
    path, _, query = path.partition("?")
    segments = [segment for segment in path.split("/") if segment] or [""]
    last, provider = segments[-1], provider.lower()
    for key in (last, last[last.rfind(":") :] if ":" in last else last, "*"):
        for choice in _TABLE.get((method, key), ()):
            route = choice.route
            if _matches(segments, choice.segments) and _is_spoken(route, provider):
                model = _model(segments, choice.segments) or _deployment(segments)
                operation = choice.operation
                if model:
                    operation = msgspec.structs.replace(operation, model=word(unquote(model)), model_parameter="")
                if ID in choice.segments:
                    item = segments[choice.segments.index(ID) - len(choice.segments)]
                    operation = msgspec.structs.replace(operation, item=word(unquote(item)))
                if more := TABLE.headers_of(provider):
                    names = (*operation.headers, *(row.name for row in more))
                    operation = msgspec.structs.replace(operation, headers=names)
                return ask_query(operation, query)
    return UNKNOWN_OPERATION


def ask_query(operation: Operation, query: str) -> Operation:
    """`operation` with the model that the query string names, where a query string is what names it."""
    for pair in query.split("&") if operation.model_parameter else ():
        name, _, value = pair.partition("=")
        if name == operation.model_parameter and value:
            return msgspec.structs.replace(operation, model=word(unquote(value)), model_parameter="")
    return operation


def _is_spoken(route: Route, provider: str) -> bool:
    return route.at in provider and not (route.not_at and route.not_at in provider)


def _matches(segments: list[str], wanted: tuple[str, ...]) -> bool:
    if len(segments) < len(wanted):
        return False
    ends = zip(segments[-len(wanted) :], wanted, strict=True)
    return all(want in ("*", MODEL, PART, ID, segment) or _is_verb(segment, want) for segment, want in ends)


def _is_verb(segment: str, want: str) -> bool:
    return want.startswith(MODEL) and segment.endswith(want.removeprefix(MODEL))


def _model(segments: list[str], wanted: tuple[str, ...]) -> str | None:
    named = []
    for segment, want in zip(segments[-len(wanted) :], wanted, strict=True):
        if want == PART:
            named.append(segment)
        elif want.startswith(MODEL):
            named.append(segment.removesuffix(want.removeprefix(MODEL)))
    return "/".join(named) or None


def _deployment(segments: list[str]) -> str | None:
    """Azure names the deployment in the path; it is what was asked for."""
    return segments[segments.index("deployments") + 1] if "deployments" in segments[:-2] else None
