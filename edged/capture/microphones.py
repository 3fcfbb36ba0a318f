"""What PortAudio says of microphones. Run as a program it prints them: PortAudio looks at every device
there is while it is loaded, tells ALSA's complaints to the terminal, and may hang in a sound server.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import msgspec

NO_PORTAUDIO = "PortAudio is missing: apt install libportaudio2"


@dataclass(frozen=True, slots=True)
class Microphone:
    """A device that sound can be read from."""

    index: int
    """PortAudio's number; it changes when devices come and go, the name does not."""
    name: str
    api: str
    """ALSA, JACK or another of PortAudio's host APIs."""
    channels: int
    rate_hz: float
    """Its own rate; others are converted on the way."""
    default: bool


def microphones() -> list[Microphone]:
    """All inputs, in PortAudio's order.

    Raises:
        OSError: PortAudio is missing, or can't be started.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise OSError(f"the package sounddevice is missing: {error}") from error
    except OSError as error:
        raise OSError(NO_PORTAUDIO) from error
    try:
        found = sounddevice.query_devices()
        apis = sounddevice.query_hostapis()
        first = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise OSError(f"PortAudio: {error}") from error
    return [
        Microphone(
            index,
            str(one["name"]),
            str(apis[one["hostapi"]]["name"]),
            int(one["max_input_channels"]),
            float(one["default_samplerate"]),
            index == first,
        )
        for index, one in enumerate(found)
        if one["max_input_channels"] > 0
    ]


def main() -> int:
    """Prints a JSON array; the reason to standard error, and 1, when that can't be."""
    try:
        found = microphones()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
