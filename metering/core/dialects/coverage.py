"""What the meter reads, for people: one row a dialect, as `metering dialects list` and docs/dialects.md show it."""

from collections.abc import Iterable

import msgspec

from metering.core.dialects.dialect import Dialect, Route

DASH = "–"
TITLES = {
    "dialect": "dialect",
    "paths": "path ends in",
    "input_total": "input total",
    "output_total": "output total",
    "also_counts": "also counts",
    "stream_usage": "usage of a stream",
    "gaps": "known gaps",
}


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """One dialect. `streamed`: whether its answers can come as a stream."""

    dialect: str
    spoken_by: str
    operation_name: str
    consumes: bool | None
    paths: str
    streamed: bool
    input_total: str
    output_total: str
    also_counts: str
    stream_usage: str
    gaps: str


def cover(dialects: Iterable[Dialect]) -> list[Coverage]:
    """The rows of `dialects`, in their order."""
    return [
        Coverage(
            dialect=dialect.name,
            spoken_by=dialect.spoken_by,
            operation_name=dialect.operation_name,
            consumes=dialect.consumes,
            paths=", ".join(dict.fromkeys(map(_path, dialect.routes))),
            streamed=dialect.stream_usage != DASH,
            input_total=dialect.input_total,
            output_total=dialect.output_total,
            also_counts=dialect.also_counts,
            stream_usage=dialect.stream_usage,
            gaps=dialect.gaps,
        )
        for dialect in dialects
    ]


def markdown(rows: Iterable[Coverage]) -> str:
    """The rows that consume, or tell what was consumed, as a table in Markdown."""
    lines = [f"| {' | '.join(TITLES.values())} |", f"|{'---|' * len(TITLES)}"]
    for row in rows:
        if row.consumes is not False:
            cells = [f"`{row.dialect}`", *(getattr(row, name) for name in list(TITLES)[1:])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _path(route: Route) -> str:
    """`POST` goes without saying."""
    path = f"`{route.path or '/'}`" if route.method == "POST" else f"{route.method} `{route.path}`"
    return f"{path} (at {route.at})" if route.at else path
