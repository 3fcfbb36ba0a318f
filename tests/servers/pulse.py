"""A microphone without hardware: a PulseAudio of a test's own, whose null sink is heard as the microphone.

Debian packages: pulseaudio, pulseaudio-utils (to play), libasound2-plugins and libportaudio2 (to listen).
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import missing

NOBODY = 65_534
"""PulseAudio does not run as root."""
START_S = 10.0
SETTINGS = """
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=mic rate={rate_hz} channels={channels}
"""
ALSA = "pcm.!default {type pulse}\nctl.!default {type pulse}\n"


class Pulse:
    """A PulseAudio that nobody else uses."""

    def __init__(self, folder: Path, rate_hz: int, channels: int) -> None:
        """`folder`: empty; whom PulseAudio runs as has to be able to enter it."""
        self._folder = folder
        self._sound = folder / "server"
        self._client = folder / "client"
        for one in (self._sound, self._client):
            one.mkdir(mode=0o700)
        self._as_root = os.geteuid() == 0
        if self._as_root:
            folder.chmod(0o711)
            self._sound.chmod(0o711)
            os.chown(self._sound, NOBODY, NOBODY)
        settings = SETTINGS.format(socket=self._socket, rate_hz=rate_hz, channels=channels)
        (self._sound / "settings.pa").write_text(settings)
        (self._client / ".asoundrc").write_text(ALSA)
        self._process: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    @property
    def _socket(self) -> Path:
        return self._sound / "native"

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment, so that ALSA's default device is the microphone."""
        return {
            "PULSE_SERVER": f"unix:{self._socket}",
            "HOME": str(self._client),
            "XDG_RUNTIME_DIR": str(self._client),
        }

    def start(self) -> None:
        """Returns when it listens: for the first time, or again."""
        own = {"HOME": str(self._sound), "XDG_RUNTIME_DIR": str(self._sound), "PATH": os.environ["PATH"]}
        nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        quiet = ["--exit-idle-time=-1", "--realtime=no", "--daemonize=no", "--use-pid-file=no"]
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *(nobody if self._as_root else []),
                *("pulseaudio", "-n", "-F", str(self._sound / "settings.pa"), *quiet),
            ],
            env=own,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + START_S
        while (
            subprocess.run(
                ["pactl", "list", "short", "sources"],
                env=os.environ | self.env,
                capture_output=True,
                check=False,
            ).stdout.count(b"mic.monitor")
            != 1
        ):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                said = self._process.communicate()[1].decode(errors="replace")
                raise RuntimeError(f"PulseAudio does not answer: {said}")
            time.sleep(0.05)  # there is no event to wait for: another program opens its socket

    def play(self, sound: Path) -> subprocess.Popen[bytes]:
        """Plays a WAV file to the microphone, in real time; it begins some tens of milliseconds from now."""
        player = subprocess.Popen(
            ["paplay", str(sound)],
            env=os.environ | self.env,
            stdin=subprocess.DEVNULL,
        )
        self._players.append(player)
        return player

    def kill(self) -> None:
        """As when the microphone is unplugged."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Connections stay, and nothing comes any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """It and what plays are gone."""
        self.kill()
        for player in self._players:
            player.kill()
            player.wait()


@contextmanager
def pulse(rate_hz: int = 16_000, channels: int = 1) -> Iterator[Pulse]:
    """A microphone at `rate_hz`, silent until something is played; gone at the end."""
    for program in ("pulseaudio", "paplay", "pactl", *(["setpriv"] if os.geteuid() == 0 else [])):
        if not shutil.which(program):
            missing(f"{program} (Debian: pulseaudio pulseaudio-utils util-linux)")
    if not ctypes.util.find_library("portaudio"):
        missing("PortAudio (Debian: libportaudio2)")
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        missing("ALSA's PulseAudio plugin (Debian: libasound2-plugins)")
    with tempfile.TemporaryDirectory(prefix="edged-pulse-") as folder:
        one = Pulse(Path(folder), rate_hz, channels)
        try:
            one.start()
            yield one
        finally:
            one.end()
