"""The usage of many answers that are told at once, added up by model."""

import msgspec

from metering.core.dialects.reading import Reading
from metering.core.usage import Usage, UsageSource

# Of more models than anybody uses in one batch the rest counts as a model without a name.
MODELS_MAX = 32


class Totals:
    """Sums by model, in the order in which the models came."""

    def __init__(self) -> None:
        self._counts: dict[str | None, dict[str, int]] = {}
        self.answers = 0

    def add(self, model: str | None, usage: Usage) -> None:
        """Add one answer's usage."""
        self.answers += 1
        if model not in self._counts and len(self._counts) >= MODELS_MAX:
            model = None
        counts = self._counts.setdefault(model, {})
        for name, quantity in msgspec.structs.asdict(usage).items():
            if quantity is not None:
                counts[name] = counts.get(name, 0) + quantity

    def readings(self, response_id: str | None, service_tier: str) -> list[Reading]:
        """One reading a model, that of the most tokens first.

        Only it has `response_id` itself, as another answer may tell the same total; the others have their model in it.
        """
        by_tokens = sorted(self._counts.items(), key=lambda item: -_tokens(item[1]))
        return [
            Reading(
                usage=Usage(**counts),
                usage_source=UsageSource.REPORTED,
                response_model=model,
                response_id=f"{response_id}:{model}" if number else response_id,
                service_tier=service_tier,
                complete=True,
                once=True,
            )
            for number, (model, counts) in enumerate(by_tokens)
        ]


def _tokens(counts: dict[str, int]) -> int:
    return counts.get("input_tokens", 0) + counts.get("output_tokens", 0)
