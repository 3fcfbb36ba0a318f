"""Opens a microphone in a process of its own, as the daemon does, and prints what comes: a JSON line each."""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from edged.capture.device import Sound, Timing
from edged.capture.sources import mic
from edged.errors import SourceError


def main() -> None:
    """Arguments: the source as JSON, and how many seconds to listen once it is open."""
    config = mic.Config.model_validate({"kind": "mic", **json.loads(sys.argv[1])})
    try:
        device = mic.open({"mic": config}, Timing(replay=False, paced=False))
    except SourceError as error:
        say(error=str(error), permanent=error.permanent)
        return
    until = time.monotonic() + float(sys.argv[2])
    try:
        for sound in device.read():
            if isinstance(sound, Sound):
                say(
                    stamp_ns=sound.stamp_ns,
                    samples=len(sound.samples),
                    rate_hz=sound.rate_hz,
                    peak=float(np.abs(sound.samples).max()),
                    onset=int(np.argmax(np.abs(sound.samples) > 0.1)),
                    arrived_ns=time.monotonic_ns(),
                )
            else:
                say(quiet=True)
            if time.monotonic() > until:
                break
    except SourceError as error:
        say(error=str(error), permanent=error.permanent)
    begin = time.monotonic()
    device.close()
    say(closed_s=time.monotonic() - begin, lost=dict(device.lost))


def say(**what: object) -> None:
    """One line, at once."""
    print(json.dumps(what), flush=True)  # noqa: T201


main()
