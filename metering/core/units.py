"""What quantities are called: on a price, in a table, in a sentence."""

from metering.core.money import HOUR_MS, MINUTE_MS
from metering.core.usage import TOKEN_METERS, Meter

MILLION = 1_000_000

DURATIONS = {
    Meter.AUDIO_INPUT_MS: "audio input",
    Meter.AUDIO_OUTPUT_MS: "audio output",
    Meter.VIDEO_OUTPUT_MS: "video output",
    Meter.COMPUTE_MS: "compute",
}
_THINGS = {
    Meter.WEB_SEARCH: ("web search", "web searches"),
    Meter.FILE_SEARCH: ("file search", "file searches"),
    Meter.CODE_EXECUTION: ("code execution", "code executions"),
    Meter.TOOL_REQUEST: ("tool request", "tool requests"),
    Meter.SEARCH_SOURCE: ("search source", "search sources"),
    Meter.SEARCH_UNIT: ("search unit", "search units"),
    Meter.GUARDRAIL_UNIT: ("guardrail unit", "guardrail units"),
    Meter.IMAGE: ("image", "images"),
    Meter.PAGE: ("page", "pages"),
    Meter.CHARACTER: ("character", "characters"),
    Meter.REQUEST: ("request", "requests"),
}
_LENGTHS_MS = {HOUR_MS: "hour", MINUTE_MS: "minute", 1_000: "second", 1: "millisecond"}


def amount_text(meter: Meter, quantity: int) -> str:
    """The quantity alone, exactly; durations in seconds.

    >>> amount_text(Meter.PAGE, 1200), amount_text(Meter.AUDIO_INPUT_MS, 3700)
    ('1,200', '3.7 s')
    """
    if meter not in DURATIONS:
        return f"{quantity:,}"
    seconds, rest = divmod(quantity, 1_000)
    return f"{seconds:,}" + (f".{rest:03}".rstrip("0") if rest else "") + " s"


def quantity_text(meter: Meter, quantity: int) -> str:
    """A quantity in a sentence.

    >>> quantity_text(Meter.IMAGE, 2), quantity_text(Meter.AUDIO_INPUT_MS, 3700), quantity_text(Meter.INPUT, 1200)
    ('2 images', '3.7 s of audio input', '1,200 input')
    """
    amount = amount_text(meter, quantity)
    if meter in DURATIONS:
        return f"{amount} of {DURATIONS[meter]}"
    return f"{amount} {_THINGS[meter][quantity != 1]}" if meter in _THINGS else f"{amount} {meter}"


def meter_title(meter: Meter) -> str:
    """The heading of a column of such quantities."""
    if meter in DURATIONS:
        return f"{DURATIONS[meter]} time"
    return _THINGS[meter][1] if meter in _THINGS else meter.value.replace("_", " ")


def pricing_unit(meter: Meter, unit_quantity: int) -> str:
    """What a price is for, as FOCUS' PricingUnit has it.

    >>> pricing_unit(Meter.INPUT, 1_000_000), pricing_unit(Meter.AUDIO_INPUT_MS, HOUR_MS)
    ('1000000 Tokens', '1 Hour')
    """
    one, many = _THINGS.get(meter, ("token", "tokens"))
    if meter in DURATIONS:
        length = next(length for length in _LENGTHS_MS if unit_quantity % length == 0)
        one, unit_quantity = _LENGTHS_MS[length], unit_quantity // length
        many = f"{one}s"
    return f"{unit_quantity} {(one if unit_quantity == 1 else many).title()}"


def default_unit_quantity(meter: Meter) -> int | None:
    """How many a price is for where nobody says: a million tokens or characters. `None` = it must be said."""
    return MILLION if meter in TOKEN_METERS or meter is Meter.CHARACTER else None
