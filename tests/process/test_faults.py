"""Workers and brokers that die, and a daemon that goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from edged.config.schema import Mqtt
from edged.publish.outbox import Outbox
from tests.conftest import Broker, make_broker
from tests.process.edged import ROOT, SCENE, edged, left_behind, listening, running, spans

SPANS = "figure_s: [0.5, 2], voice_s: [1, 1], alarm_s: [3, 3.5]"
ROOM = """
device: room
mqtt: {{url: "{url}"}}
state_dir: {state}
sources:
  cam: {{kind: synthetic, rate_hz: 10, period_s: 4, {scene}}}
  mic: {{kind: synthetic, modality: audio, period_s: 4, {scene}}}
models:
  voice: {{card: voice, sources: [mic]}}
events:
  movement: {{video: {{source: cam, label: motion, min_score: 0.01}}, hold_s: 0.5}}
  loud: {{audio: {{source: mic, label: sound, min_score: 0.5}}, hold_s: 0.5}}
"""


def room(folder: Path, url: str) -> Path:
    """A configuration whose events come every four seconds."""
    file = folder / "room.yaml"
    file.write_text(ROOM.format(url=url, scene=SPANS, state=folder / "state"))
    return file


@pytest.mark.parametrize("victim", ["cam", "perceive"])
def test_a_killed_worker_is_replaced(victim: str, tmp_path: Path, broker: Broker) -> None:
    with listening(broker.url) as listener:
        with running("run", room(tmp_path, broker.url), log=tmp_path / "log") as daemon:
            assert listener.wait(lambda: bool(listener.events("movement", "start")), 20)
            before = daemon.workers()
            os.kill(before[victim], signal.SIGKILL)
            seen = len(listener.events("movement", "start")), listener.last("/source/mic")["analysed"]
            assert listener.wait(lambda: len(listener.events("movement", "start")) >= seen[0] + 2, 20)
            assert listener.wait(lambda: listener.last("/room/health").get("errors") == [], 20)
            after = daemon.workers()
            assert after.keys() == before.keys()
            assert after[victim] != before[victim]
            assert listener.wait(lambda: bool(listener.events("loud", "end")), 20)
            assert daemon.stop() < 2
            assert daemon.process.returncode == 0
        listener.listen(0.5)
        starts = {one["id"] for one in listener.events(phase="start")}
        ends = {one["id"] for one in listener.events(phase="end")}
        assert starts == ends
        assert (tmp_path / "log").read_text().count("Traceback") == 0
    assert left_behind() == []


def test_workers_do_not_outlive_a_killed_daemon(tmp_path: Path, broker: Broker) -> None:
    with listening(broker.url) as listener:
        with running("run", room(tmp_path, broker.url), log=tmp_path / "log") as daemon:
            assert listener.wait(lambda: bool(listener.events("movement", "start")), 20)
            workers = daemon.workers()
            daemon.process.kill()
            daemon.process.wait()
            assert listener.wait(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers.values()), 5
            )
        # The next daemon ends what this one left open.
        listener.listen(0.2)
        open_before = {one["id"] for one in listener.events(phase="start")}
        open_before -= {one["id"] for one in listener.events(phase="end")}
        with running("run", room(tmp_path, broker.url), log=tmp_path / "log2") as daemon:
            assert open_before
            assert listener.wait(
                lambda: open_before <= {one["id"] for one in listener.events(phase="end")}, 20
            )
            daemon.stop()
        ended = [one for one in listener.events(phase="end") if one["id"] in open_before]
        assert [one["sequence"] >= 2 for one in ended] == [True] * len(open_before)


def test_events_wait_for_a_broker_that_is_absent_at_start(tmp_path: Path, broker: Broker) -> None:
    broker.stop()
    with running("run", room(tmp_path, broker.url), log=tmp_path / "log") as daemon:
        time.sleep(8)  # two periods of the scene: their events have nowhere to go
        assert daemon.process.poll() is None
        broker.start()
        with listening(broker.url) as listener:
            assert listener.wait(lambda: len(listener.events("movement", "start")) >= 2, 40)
            assert daemon.stop() < 2
            listener.listen(0.5)
            by_id: dict[str, list[int]] = {}
            for event in listener.events():
                by_id.setdefault(event["id"], []).append(event["sequence"])
            for sequences in by_id.values():
                assert sequences == list(range(1, len(sequences) + 1))


def test_what_the_broker_never_took_is_on_disk(tmp_path: Path) -> None:
    with running("run", room(tmp_path, "mqtt://127.0.0.1:9"), log=tmp_path / "log") as daemon:
        time.sleep(7)  # as above
        assert daemon.stop() < 2
        assert daemon.process.returncode == 0
    outbox = Outbox(tmp_path / "state")
    assert outbox.waiting >= 2
    assert outbox.left_open == [], "a stop ends what is open"
    outbox.close()


def test_a_wrong_password_is_a_state_not_a_crash(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("")
    users.chmod(0o600)
    locked = make_broker(tmp_path, f"allow_anonymous false\npassword_file {users}")
    (tmp_path / "password").write_text("wrong\n")
    file = room(tmp_path, locked.url)
    file.write_text(file.read_text().replace('"}', '", username: me, password_file: password}'))
    try:
        with running("run", file, log=tmp_path / "log") as daemon:
            deadline = time.monotonic() + 15
            while "refused" not in (tmp_path / "log").read_text() and time.monotonic() < deadline:
                time.sleep(0.1)  # a log has no event to wait for
            assert daemon.process.poll() is None
            assert daemon.stop() < 2
        text = (tmp_path / "log").read_text()
        assert "refused: Not authorized" in text or "refused: Bad user name or password" in text
        assert "wrong" not in text
        assert "Traceback" not in text
    finally:
        locked.stop()


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", ["cam", "perceive"])
def test_later_visits_are_found_after_a_kill(victim: str, data: Path, tmp_path: Path) -> None:
    source = f"cam={data / 'av/scene_a.mp4'}"
    arguments = ("--source", source, "--models", data / "models", "--mqtt", "none", "--paced", "--json")
    log = tmp_path / "log"
    with running("replay", SCENE, *arguments, log=log) as replay:
        deadline = time.monotonic() + 60
        while '"start"' not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)  # a log has no event to wait for
        time.sleep(30)  # into the second visit
        os.kill(replay.workers()[victim], signal.SIGKILL)
        assert replay.process.wait(200) == 0
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    visits = json.loads((data / "av/scene_a.json").read_text())["person"]
    starts = [start for start, _ in spans(events, "person")]
    for on, _ in visits[2:]:
        assert any(abs(start - on) <= 1.5 for start in starts), (on, starts)


@pytest.mark.parametrize(
    ("slots", "reason"),
    [pytest.param(2, "", id="too small"), pytest.param(256, "over the limit", id="too large")],
)
def test_a_pool_of_a_bad_size(slots: int, reason: str, data: Path, tmp_path: Path, broker: Broker) -> None:
    """Too small: frames without a slot are dropped and counted. Too large: a state with the numbers."""
    (tmp_path / "large").mkdir()
    card = (ROOT / "models/yolox-nano/model.yaml").read_text()
    side = 416 if slots == 2 else 4096
    (tmp_path / "large/model.yaml").write_text(card + f"width: {side}\nheight: {side}\n")
    file = room(tmp_path, broker.url)
    text = file.read_text().replace("rate_hz: 10,", f"rate_hz: 100, slots: {slots},")
    text = text.replace("models:", "models:\n  people: {card: large, sources: [cam]}")
    file.write_text(text + f"models_dirs: [., {data / 'models'}]\n")
    with listening(broker.url) as listener:
        with running("run", file, log=tmp_path / "log") as daemon:
            if reason:
                assert listener.wait(lambda: reason in str(listener.last("/source/cam").get("reason")), 20)
                assert listener.last("/source/cam")["state"] == "failed"
            else:
                assert listener.wait(lambda: listener.last("/source/cam").get("drops", {}) != {}, 30)
                assert set(listener.last("/source/cam")["drops"]) <= {"no_slot", "superseded", "no_reader"}
            assert listener.wait(lambda: bool(listener.events("loud", "start")), 20), "the others go on"
            assert daemon.stop() < 2
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_unknown_broker_in_a_replay_is_an_error(tmp_path: Path) -> None:
    file = room(tmp_path, "mqtt://127.0.0.1:9")
    text = file.read_text().replace("period_s: 4,", "period_s: 4, seconds: 5,")
    file.write_text(text)
    done = edged("replay", file)
    assert done.returncode == 1
    assert "events were not published" in done.stderr
    assert "mqtt://127.0.0.1:9" in done.stderr
    assert Mqtt(url="mqtt://127.0.0.1:9").url in done.stderr
