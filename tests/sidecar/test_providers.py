"""What is known of providers: each line says from where, and the documentation says the same."""

import re
from pathlib import Path

import pytest

from metering.sidecar.config import parse_config
from metering.sidecar.providers import PROVIDERS, Stops, find_provider
from metering.sidecar.relay.routes import RouteTable

PAGE = (Path(__file__).parents[2] / "docs" / "sidecar.md").read_text()
WAYS = {
    Stops.ALWAYS: ("cancelled", "cancelled"),
    Stops.STREAMS: ("cancelled", "read on"),
    Stops.NEVER: ("read on",) * 2,
}


def test_each_line_says_where_it_is_from() -> None:
    for name, provider in PROVIDERS.items():
        assert find_provider(name) is provider
        assert bool(provider.stops_from) == (provider.stops is not Stops.UNKNOWN)
        assert provider.asked_from or not provider.asked


def test_the_documentation_has_the_same_tables() -> None:
    (asked,) = re.findall(r"only providers known to take it \(([^)]*)\)", PAGE)
    assert re.split(r",\s+", asked) == [name for name in sorted(PROVIDERS) if PROVIDERS[name].asked]
    rows = re.findall(r"^\| ([a-z, ]+) \| (cancelled|read on) \| (cancelled|read on) \|", PAGE, re.MULTILINE)
    said = {name: (streams, others) for names, streams, others in rows for name in names.split(", ")}
    assert said.pop("any other") == ("cancelled", "cancelled")
    known = {name: WAYS[each.stops] for name, each in PROVIDERS.items() if each.stops is not Stops.UNKNOWN}
    assert said == known


@pytest.mark.parametrize(
    ("setting", "provider", "asks"),
    [("off", "openai", False), ("auto", "openai", True), ("auto", "Azure_OpenAI", True), ("auto", "az.ai.openai", True),
     ("auto", "mistral", False), ("auto", "ours", False), ("on", "mistral", True), ("on", "ours", True)],
)  # fmt: skip
def test_routes_that_ask(setting: str, provider: str, asks: bool) -> None:
    route = f'[[route]]\npath = "/a"\nupstream = "http://a"\nprovider = "{provider}"\nask_usage = "{setting}"'
    config = parse_config(route, Path("/state"))
    assert RouteTable(config.routes, config.keys).routes[0].asks is asks
