"""A process that reads films through the stream source, and says how each ended: one line of JSON when it
begins, one when it is done. Run with the paths or URLs as arguments.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from pathlib import Path

from edged.capture.device import Timing
from edged.capture.sources import stream
from edged.errors import SourceError

MEMORY_BYTES = 4 << 30
"""More would end other programs of the machine; what needs so much has failed the test already."""


def main() -> None:
    """Reads each film for its picture and its sound."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for name in sys.argv[1:]:
        _say(begins=name)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
        _say(name=name, **_read(name), peak_bytes=_peak_bytes(), threads=_threads(), open_files=_open_files())


def _read(name: str) -> dict[str, str | int]:
    items = 0
    try:
        sources = {"cam": _config(name, "video"), "mic": _config(name, "audio")}
        device = stream.open(sources, Timing(replay="://" not in name, paced=False))
        try:
            for item in device.read():
                items += item is not None
        finally:
            device.close()
    except SourceError as error:
        return {"end": "refused", "reason": str(error), "items": items}
    except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to know
        return {"end": "raised", "reason": f"{type(error).__name__}: {error}", "items": items}
    return {"end": "ended", "reason": "", "items": items}


def _config(name: str, modality: str) -> stream.Config:
    return stream.Config.model_validate({"kind": "stream", "url": name, "modality": modality})


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _threads() -> int:
    """After a moment for those that are ending, and close what they have open."""
    deadline = time.monotonic() + 1
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread that nobody joins tells nobody
    return threading.active_count()


def _say(**what: str | int) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - the test reads this


if __name__ == "__main__":
    main()
