"""Beeps and flashes as pages note them (mouth_to_ear_probe.js): how long each was on its way."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PROBE: Final = Path(__file__).with_name("mouth_to_ear_probe.js")
LATEST_MS: Final = 900.0
MICROPHONE: Final = "parley.call.transports.local.get('microphone').track"
SOUND_OF: Final = """userId => [...parley.call.topology.received.values()]
  .find(({info}) => info.userId === userId && info.source === 'microphone')"""


def matched(sent: Sequence[float], got: Sequence[float]) -> list[float]:
    """For each onset the time until it came, ms; one that did not come within 0.9 s counts for nothing. Both ascend."""
    delays = []
    for at in sent:
        index = bisect_left(got, at)
        if index < len(got) and got[index] - at < LATEST_MS:
            delays.append(got[index] - at)
    return delays
