"""The demo's bundled scenario: teams, prices of our own, and loads that become calls, the same ones every time."""

import random
import tomllib
from decimal import Decimal
from importlib import resources

import msgspec

from metering.lab.calls import Call
from metering.lab.wire import EMBEDDINGS

SECONDS = 3600  # the hour that the loads are spread over


class ScenarioTeam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team and who pays for it."""

    name: str
    cost_center: str
    by_header: bool = False  # has no metering key: its calls say who they are in a header that the route trusts


class ScenarioPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the operator's own price file, per million tokens in USD."""

    provider: str
    model: str
    meter: str
    price: str


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Calls of one kind. Token counts are drawn evenly from `[least, most]`."""

    team: str
    project: str
    dialect: str
    model: str
    calls: int
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    cached_share: Decimal = Decimal(0)  # of the input tokens
    streamed: bool = False
    fault: str = ""
    leaves_early: bool = False


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    seed: int
    teams: list[ScenarioTeam] = msgspec.field(name="team")
    prices: list[ScenarioPrice] = msgspec.field(name="price")
    loads: list[Load] = msgspec.field(name="load")

    def calls(self) -> list[Call]:
        """All calls, in order of time."""
        dice = random.Random(self.seed)
        calls = [call for load in self.loads for call in _calls(load, dice)]
        return sorted(calls, key=lambda call: call.at_ms)


def bundled() -> Scenario:
    """The scenario that comes with the package."""
    text = resources.files("metering.lab").joinpath("scenario.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Scenario)


def _calls(load: Load, dice: random.Random) -> list[Call]:
    calls = []
    for _ in range(load.calls):
        input_tokens = dice.randint(*load.input_tokens)
        calls.append(
            Call(
                at_ms=dice.randrange(SECONDS * 1000),
                team=load.team,
                project=load.project,
                dialect=load.dialect,
                model=load.model,
                input_tokens=input_tokens,
                output_tokens=0 if load.dialect in EMBEDDINGS else dice.randint(*load.output_tokens),
                cached_tokens=int(input_tokens * load.cached_share),
                streamed=load.streamed,
                fault=load.fault,
                leaves_early=load.leaves_early,
            )
        )
    return calls
