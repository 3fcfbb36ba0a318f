"""What a camera costs while nothing happens: key frames alone against every picture.

A film as a camera sends it (see `footage.camera`: 768×432, 2 Mbit/s, 25 pictures a second, a key frame each
second) comes over HTTP at its own speed. `cpu_ratio` is the CPU time of a real capture process at an idle
rate of 1 Hz against that of the same process at 25 Hz, at which it decodes, gates and hands on every
picture. `decode_ratio` is against a plain loop over PyAV that reads the same stream on one thread, decodes
every picture, and does nothing with it. Starts are not counted.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import av

from edged.wire.pool import Lease
from edged.wire.views import PictureView
from tools.bench.capturing import Capturing
from tools.bench.footage import camera
from tools.bench.measure import Unmeasurable, interleaved, median, need
from tools.bench.processes import free_port
from tools.bench.report import Goal

GOALS = (Goal("cpu_ratio", at_most=0.25),)

FILM = "video/one-by-one-person.mp4"
FPS, FRAMES = 25, 700
VIEW = PictureView(416, 416)
START_S, WATCH_S = 5.0, 8.0


def measure(pairs: int, data: Path) -> dict[str, float]:
    """`pairs` rounds of the three ways to read the film."""
    need(data / FILM)
    if shutil.which("ffmpeg") is None:
        raise Unmeasurable("ffmpeg is not installed (Debian: apt install ffmpeg)")
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as scratch:
        film = camera(data / FILM, Path(scratch) / "film.mp4", (768, 432), FRAMES)
        ways = partial(_through, film, 1), partial(_through, film, FPS), partial(_plain, film)
        rounds = list(interleaved(pairs, *ways))
    return {
        "cpu_ratio": median(idle / full for idle, full, _ in rounds),
        "decode_ratio": median(idle / plain for idle, _, plain in rounds),
        "idle_cpu_ms_per_s": median(idle for idle, _, _ in rounds),
        "full_cpu_ms_per_s": median(full for _, full, _ in rounds),
        "decode_cpu_ms_per_s": median(plain for _, _, plain in rounds),
    }


@contextmanager
def _served(film: Path) -> Iterator[str]:
    """The film over HTTP at its own speed, for one client."""
    url = f"http://127.0.0.1:{free_port()}/film.ts"
    command = ["ffmpeg", "-v", "error", "-re", "-i", str(film), "-c", "copy", "-f", "mpegts", "-listen", "1"]
    process = subprocess.Popen([*command, url], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)  # whoever asks whether it listens is its only client
        yield url
    finally:
        process.kill()
        process.wait()


def _through(film: Path, rate_hz: int) -> float:
    """Milliseconds of CPU for each second."""
    frames = 0
    with (
        _served(film) as url,
        Capturing({"cam": {"kind": "stream", "url": url, "rate_hz": rate_hz}}, view=VIEW) as capturing,
    ):
        for _ in capturing.coming(START_S):
            pass
        begin_ns, begin_cpu_ns = time.monotonic_ns(), capturing.cpu_ns()
        frames = sum(isinstance(item, Lease) for item, _ in capturing.coming(WATCH_S))
        cpu_ns, lasted_ns = capturing.cpu_ns() - begin_cpu_ns, time.monotonic_ns() - begin_ns
    if abs(frames - WATCH_S * rate_hz) > 1 + 0.1 * WATCH_S * rate_hz:
        raise Unmeasurable(f"{frames} frames came in {WATCH_S:.0f} s at {rate_hz} Hz")
    return cpu_ns / lasted_ns * 1e3


def _plain(film: Path) -> float:
    """The same of the plain loop, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with _served(film) as url:
        process = context.Process(target=_decode, args=(url, theirs), name="plain")
        process.start()
        theirs.close()
        try:
            spent: float = ours.recv()
        except EOFError as error:
            raise Unmeasurable("the plain loop could not read the stream") from error
        finally:
            process.join()
    return spent


def _decode(url: str, result: Connection) -> None:
    with av.open(url, timeout=(10, 5)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        begin = begin_cpu = 0.0
        opened = time.monotonic()
        for _ in container.decode(video=0):
            now = time.monotonic()
            if not begin and now - opened > START_S / 2:
                begin, begin_cpu = now, time.process_time()
            elif begin and now - begin > WATCH_S:
                result.send((time.process_time() - begin_cpu) / (now - begin) * 1e3)
                return
