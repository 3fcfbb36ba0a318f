"""The naive loop that edged is compared with: read, letterbox, run, decode, publish, one after the other.

Plain code as one writes it in ten minutes with OpenCV, numpy, ONNX Runtime and paho, after YOLOX's own
demo for ONNX Runtime; it knows nothing of edged. OpenCV and paho are left as they come (OpenCV decodes
and scales on all cores); the engine has one thread.

    python -m tools.bench.baseline VIDEO MODEL HOST PORT

It prints a JSON object: `frames` analysed, `seconds` from the end of the first frame to the end of the
last, and `starts` of events that were published.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import

import cv2
import numpy as np
import onnxruntime as ort
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

SIZE = 416
PERSON = 0
MIN_SCORE = 0.5
KEEP_SCORE = 0.35
NMS_SCORE = 0.25
NMS_IOU = 0.45
HOLD_S = 2.0


def open_session(path: str) -> Any:  # noqa: ANN401
    """One thread, the rest as it comes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def grid() -> tuple[Any, Any]:
    """Corner and stride of each of the 3549 cells."""
    corners, strides = [], []
    for stride in (8, 16, 32):
        side = SIZE // stride
        x, y = np.meshgrid(np.arange(side), np.arange(side))
        corners.append(np.stack([x, y], 2).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    return np.concatenate(corners), np.concatenate(strides)


def preprocess(picture: Any) -> tuple[Any, float]:  # noqa: ANN401
    """Letterboxed, as float planes, and the scale."""
    height, width = picture.shape[:2]
    scale = min(SIZE / height, SIZE / width)
    small = cv2.resize(picture, (round(width * scale), round(height * scale)))
    padded = np.full((SIZE, SIZE, 3), 114, np.uint8)
    padded[: small.shape[0], : small.shape[1]] = small
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32), scale


def postprocess(output: Any, corners: Any, strides: Any, scale: float) -> list[tuple[int, float, Any]]:  # noqa: ANN401
    """Class, score and box (pixels of the picture) of what is seen."""
    centres = (output[:, :2] + corners) * strides
    sizes = np.exp(output[:, 2:4]) * strides
    boxes = np.concatenate([centres - sizes / 2, sizes], 1) / scale
    scores = output[:, 4:5] * output[:, 5:]
    classes = scores.argmax(1)
    scores = scores[np.arange(len(scores)), classes]
    good = scores > NMS_SCORE
    boxes, scores, classes = boxes[good], scores[good], classes[good]
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), NMS_SCORE, NMS_IOU)
    return [(int(classes[i]), float(scores[i]), boxes[i].tolist()) for i in kept]


def main() -> None:
    """Reads the arguments, loops, and prints."""
    video, model, host, port = sys.argv[1:]
    session = open_session(model)
    name = session.get_inputs()[0].name
    corners, strides = grid()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(host, int(port))
    client.loop_start()
    capture = cv2.VideoCapture(video)
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = starts = 0
    first = last = 0.0
    seen_at: float | None = None

    def publish(phase: str, at: float, score: float, box: Any) -> Any:  # noqa: ANN401
        event = {"type": "person", "phase": phase, "at": at, "score": score, "box": box}
        return client.publish("baseline/event/person", json.dumps(event), qos=1)

    while True:
        there, picture = capture.read()
        if not there:
            break
        at = frames / fps
        tensor, scale = preprocess(picture)
        (output,) = session.run(None, {name: tensor})
        persons = [one for one in postprocess(output[0], corners, strides, scale) if one[0] == PERSON]
        _, score, box = max(persons, key=lambda one: one[1], default=(0, 0.0, None))
        if score >= (MIN_SCORE if seen_at is None else KEEP_SCORE):
            if seen_at is None:
                publish("start", at, score, box)
                starts += 1
            seen_at = at
        elif seen_at is not None and at - seen_at > HOLD_S:
            publish("end", seen_at, 0.0, None)
            seen_at = None
        frames += 1
        last = time.monotonic()
        first = first or last
    publish("end", frames / fps, 0.0, None).wait_for_publish(10)
    client.loop_stop()
    print(json.dumps({"frames": frames, "seconds": last - first, "starts": starts}))


if __name__ == "__main__":
    main()
