"""ServeGen: calls drawn from measured rates and token distributions of 422 real, anonymised tenants.

The trace holds, for each client of a model, its request rate in every ten minutes and the quantiles of its
prompts and answers in every six hours. Calls are drawn from them with a seed, in whole tokens.
"""

import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from metering.core.money import apportion
from metering.errors import InputError
from metering.lab.calls import Call, Part

BUCKET_SECONDS = 600
RATE_COLUMNS = {"category", "model", "client_id", "ts_s", "rate_rps"}
TOKEN_COLUMNS = {"category", "model", "client_id", "ts_s", "field", "mean", "p50", "p90", "p99", "max"}
# What the model read: of a multimodal tenant the parts, of the others the whole.
INPUT_FIELDS = ("input_tokens", "text_tokens", "image_tokens", "audio_tokens", "video_tokens")
OUTPUT_FIELDS = ("output_tokens",)
# The anonymised models stand in for public ones that have prices, except where they are served locally.
SPOKEN = {
    "openai.chat": {"m-large": "gpt-4o", "m-mid": "gpt-4.1", "m-small": "gpt-4o-mini", "mm-image": "gpt-4o"},
    "anthropic.messages": {"m-large": "claude-opus-4-1", "m-mid": "claude-sonnet-4-5", "m-small": "claude-haiku-4-5"},
}
DIALECTS = ("openai.chat", "openai.chat", "anthropic.messages", "ollama.chat")

STREAMED_SHARE = 0.7

Tenant = tuple[str, str, int]  # category, model, client


class Spread(msgspec.Struct, frozen=True):
    """A distribution of token counts by its mean, three quantiles and maximum."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float

    def draw(self, level: float) -> int:
        """The whole number of tokens at quantile `level` (0 … 1): straight lines between the known quantiles.

        The lower end is where it must be for the whole to have the measured mean, within 0 … p50.
        """
        above = 0.4 * (self.p50 + self.p90) + 0.09 * (self.p90 + self.p99) + 0.01 * (self.p99 + self.max)
        low = min(self.p50, max(0.0, (2 * self.mean - above) / 0.5 - self.p50))
        points = ((0.0, low), (0.5, self.p50), (0.9, self.p90), (0.99, self.p99), (1.0, self.max))
        for (left, floor), (right, ceiling) in pairwise(points):
            if level <= right:
                return int(floor + (ceiling - floor) * (level - left) / (right - left))
        return int(self.max)


class Windows(msgspec.Struct, frozen=True):
    """A tenant's spreads by six-hour window: `spreads[i]` (a spread per field) begins at second `starts[i]`."""

    starts: list[int]
    spreads: list[dict[str, Spread]]

    def draw(self, second: int, fields: Sequence[str], level: float) -> int:
        """Tokens of `fields` together at quantile `level`, by the window of `second` or the nearest before it."""
        spreads = self.spreads[max(0, bisect_right(self.starts, second) - 1)]
        return sum(spreads[field].draw(level) for field in fields if field in spreads)


def servegen_calls(rates: Path, tokens: Path, *, seed: int, calls: int) -> list[Call]:
    """`calls` calls: as many of a tenant as its share of all traffic, at least one of every tenant that has any.

    A tenant without a measured distribution borrows that of its model's busiest tenant.
    """
    rate_rows = _read(rates, RATE_COLUMNS).filter(pl.col("rate_rps") > 0).sort("category", "model", "client_id", "ts_s")
    windows = _windows(_read(tokens, TOKEN_COLUMNS))
    busy: dict[Tenant, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for category, model, client, second, rate in rate_rows.select(
        "category", "model", "client_id", "ts_s", "rate_rps"
    ).iter_rows():
        seconds, weights = busy[category, model, client]
        seconds.append(second)
        weights.append(rate)
    if not busy:
        raise InputError(f"{rates} has no traffic: no row has a rate above zero")
    shares = _shares({tenant: sum(weights) for tenant, (_, weights) in busy.items()}, calls)
    drawn: list[Call] = []
    for tenant, (seconds, weights) in busy.items():
        drawn += _tenant_calls(tenant, seconds, weights, _borrowed(tenant, windows), shares[tenant], seed)
    return drawn


def _read(path: Path, columns: set[str]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} can't be read as Parquet: {error}; download it again") from None
    if missing := sorted(columns - set(frame.columns)):
        raise InputError(f"{path} has no column {missing[0]}: a ServeGen file has {', '.join(sorted(columns))}")
    if nulls := [name for name in sorted(columns) if frame[name].null_count()]:
        raise InputError(f"{path} has empty values in column {nulls[0]}: take those rows out")
    return frame


def _shares(weights: Mapping[Tenant, float], calls: int) -> dict[Tenant, int]:
    """Split `calls` by weight in whole calls, at least one each while there are enough."""
    names = {f"{category} {model} {client:06d}": (category, model, client) for category, model, client in weights}
    floor = 1 if calls >= len(weights) else 0
    parts = apportion(
        Decimal(calls - floor * len(weights)), {name: int(weights[tenant] * 1e6) for name, tenant in names.items()}, 0
    )
    return {tenant: int(parts[name]) + floor for name, tenant in names.items()}


def _windows(frame: pl.DataFrame) -> dict[Tenant, Windows]:
    found: dict[Tenant, dict[int, dict[str, Spread]]] = defaultdict(lambda: defaultdict(dict))
    wanted = frame.filter(pl.col("field").is_in([*INPUT_FIELDS, *OUTPUT_FIELDS])).sort("ts_s")
    columns = ["category", "model", "client_id", "ts_s", "field", "mean", "p50", "p90", "p99", "max"]
    for category, model, client, second, field, *numbers in wanted.select(columns).iter_rows():
        found[category, model, client][second][field] = Spread(*numbers)
    return {tenant: Windows(list(by_start), list(by_start.values())) for tenant, by_start in found.items()}


def _borrowed(tenant: Tenant, windows: Mapping[Tenant, Windows]) -> Windows:
    if tenant in windows:
        return windows[tenant]
    peers = sorted(
        (peer for peer in windows if peer[:2] == tenant[:2]), key=lambda peer: (-len(windows[peer].starts), peer)
    )
    if not peers:
        raise InputError(f"no token distribution for model {tenant[1]}: name the tokendist file of the same trace")
    return windows[peers[0]]


def _tenant_calls(
    tenant: Tenant, seconds: list[int], weights: list[float], windows: Windows, count: int, seed: int
) -> list[Call]:
    category, model, client = tenant
    dice = random.Random(f"{seed} {category} {model} {client}")
    part = _part(model, dice)
    cumulative = list(accumulate(weights))
    same: dict[str, Any] = {"team": f"{model}-{client:03d}", "project": category, "dialect": part.dialect}
    return [
        Call(
            at_ms=bucket * 1000 + dice.randrange(BUCKET_SECONDS * 1000),
            model=part.model,
            input_tokens=max(1, windows.draw(bucket, INPUT_FIELDS, dice.random())),
            output_tokens=max(1, windows.draw(bucket, OUTPUT_FIELDS, dice.random())),
            streamed=dice.random() < STREAMED_SHARE,
            **same,
        )
        for bucket in dice.choices(seconds, cum_weights=cumulative, k=count)
    ]


def _part(model: str, dice: random.Random) -> Part:
    """A tenant speaks one dialect; a model without a public stand-in in it is served locally."""
    dialect = dice.choice(DIALECTS)
    spoken = SPOKEN.get(dialect, {}).get(model)
    return Part(dialect, spoken, streamed=True) if spoken else Part("ollama.chat", model, streamed=True)
