"""Play many conversations without and with a sidecar, before upstreams that follow the same script, and compare."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from metering.core.event import UsageEvent
from tests.identity.comparing import Observed, closes, compare
from tests.identity.exchange import Conversation, Exchange
from tests.identity.playing import Heard, Reply, Stage, ask_alone, converse
from tests.sidecar.rig import Upstream, relaying

AT_ONCE = 24
# On a busy machine a second may pass before an answer that a half-closed client waits for.
CONFIG = "[limits]\nhalf_close_seconds = 60"
PATIENCE_SECONDS = 60.0  # for one conversation: no step of it waits for anything but the other side


@dataclass
class Campaign:
    """What was played so far. `findings` = conversations in which something differed, with all that differed."""

    exchanges: list[Exchange] = field(default_factory=list)
    findings: dict[Conversation, list[str]] = field(default_factory=dict)
    retries: int = 0

    def describe(self) -> Iterator[str]:
        """The command that plays a finding again, and what differed."""
        for conversation, differences in self.findings.items():
            yield f"python -m benchmarks.identity --seed {conversation.seed} --only {conversation.number}"
            yield from (f"    {difference}" for difference in differences)

    async def play(self, folder: Path, conversations: Iterable[Conversation]) -> None:
        """Play these, some at once, through a sidecar with its spool in `folder`."""
        bare, behind = Stage(), Stage()
        direct = Upstream(bare.script)
        await direct.start()
        heard: dict[Conversation, list[tuple[Reply, Heard]]] = {}
        pending = iter(conversations)
        async with relaying(folder, behind.script, config=CONFIG) as rig:

            async def work() -> None:
                for conversation in pending:
                    bare.add(conversation)
                    behind.add(conversation)
                    heard[conversation] = []
                    try:
                        async with asyncio.timeout(PATIENCE_SECONDS):
                            alone = [
                                await ask_alone(lambda: rig.connect(direct.port), exchange)
                                for exchange in conversation.exchanges
                            ]
                            plan = [closes(e, r) for e, r in zip(conversation.exchanges, alone, strict=True)]
                            relayed = await converse(rig.connect, conversation, plan)
                    except TimeoutError:
                        self.findings[conversation] = ["it did not end"]
                    else:
                        heard[conversation] = list(zip(alone, relayed, strict=True))

            async with asyncio.TaskGroup() as workers:
                for _ in range(AT_ONCE):
                    workers.create_task(work())
            rows: defaultdict[str | None, list[UsageEvent]] = defaultdict(list)
            for event in rig.records():
                rows[event.trace_id].append(event)
            self.retries += rig.relay.count().upstream_retries
        await direct.stop()
        for conversation, replies in heard.items():
            self.exchanges += conversation.exchanges
            for exchange, (alone, relayed) in zip(conversation.exchanges, replies, strict=False):
                id_ = exchange.trace_id
                found = compare(Observed(exchange, alone, relayed, behind.received[id_], rows[id_]))
                if found:
                    place = f"exchange {conversation.exchanges.index(exchange)}"
                    self.findings.setdefault(conversation, []).extend(f"{place}: {one}" for one in found)
