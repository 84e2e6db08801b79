"""Generated exchanges, with and without the sidecar: the client notices nothing, and each call has its row.

`python -m benchmarks.identity` plays many more.
"""

from pathlib import Path

import uvloop

from tests.identity.campaign import Campaign
from tests.identity.conversation import compose

SEED = 1
CONVERSATIONS = 640  # some 1,500 exchanges


def test_generated_exchanges_are_the_same_behind_the_sidecar(tmp_path: Path) -> None:
    campaign = Campaign()
    uvloop.run(campaign.play(tmp_path, (compose(SEED, number) for number in range(CONVERSATIONS))))
    assert len(campaign.exchanges) > 1400
    assert not campaign.findings, "\n".join(campaign.describe())
