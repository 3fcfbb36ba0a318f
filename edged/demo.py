"""`edged demo`: the real daemon on a rendered scene (or on what one names), seen over MQTT."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edged.config.load import load
from edged.config.schema import Config, Mqtt
from edged.errors import EdgedError, ModelError
from edged.perceive.cards import find_weights, load_card, shipped
from edged.publish.broker import EmbeddedBroker
from edged.publish.subscriber import Subscriber
from edged.wire.event import Event

LOCAL = "mqtt://127.0.0.1:1883"
SHOWN_EVENTS = 12
STOP_S = 5.0
LAST_S = 0.5
"""How long to listen for what was published while the daemon stopped."""
CAMERA, MICROPHONE = "room_cam", "room_mic"


def run_demo(seconds: float, *, source: str | None, models: list[Path], mqtt: str | None) -> None:
    """Runs the demo for so long, and prints a summary.

    Raises:
        EdgedError: the daemon or the broker failed.
    """
    config = _config(source, models)
    console = Console()
    with ExitStack() as stack:
        broker = _broker(mqtt, stack)
        config = config.model_copy(update={"mqtt": broker})
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edged-demo-")))
        base = f"{broker.prefix}/{config.device}"
        topics = [f"{base}/event/#", f"{base}/source/#", f"{base}/health"]
        subscriber = stack.enter_context(Subscriber(broker, topics))
        console.print(f"edged demo: {seconds:g} s, events on {broker.url}, topic {base}/event/#\n")
        seen = _Seen()
        with _daemon(config, folder) as process:
            try:
                _watch(subscriber, seen, seconds, process, console)
            except KeyboardInterrupt:
                console.print("stopped early")
        for topic, payload in subscriber.messages(LAST_S):
            seen.take(topic, payload)
        code = process.returncode
        failure = (folder / "log").read_text(encoding="utf-8", errors="replace").strip()
    console.print(seen.summary())
    if code != 0:
        raise EdgedError(f"the daemon ended with exit code {code}:\n{failure}")


class _Seen:
    """What came over MQTT."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=SHOWN_EVENTS)
        self.sources: dict[str, dict[str, Any]] = {}
        self.health: dict[str, Any] = {}
        self._phases: dict[str, Counter[str]] = defaultdict(Counter)
        self._latency_ms: dict[str, list[float]] = defaultdict(list)

    def take(self, topic: str, payload: bytes) -> None:
        """One message."""
        kind, _, name = "/".join(topic.split("/")[2:]).partition("/")
        if kind == "event":
            event = Event.from_json(payload)
            self.events.append(event)
            self._phases[event.type][event.phase] += 1
            if event.phase == "start":
                for stage, spent in (event.latency_ms or {}).items():
                    self._latency_ms[stage].append(spent)
        elif kind == "source":
            self.sources[name] = json.loads(payload)
        else:
            self.health = json.loads(payload)

    def live(self, left_s: float) -> Group:
        """The newest events, and the sources' states."""
        table = Table(title=f"events ({left_s:.0f} s left)", expand=False, min_width=78)
        for column in ("time (UTC)", "event", "phase", "score", "evidence"):
            table.add_column(column, no_wrap=True)
        for event in self.events:
            table.add_row(*_row(event))
        states = [f"{name} {source['state']}" for name, source in self.sources.items()]
        lines = [Text("  ".join(states), style="dim")]
        lines += [Text(trouble, style="red") for trouble in self.health.get("errors", [])]
        return Group(table, *lines)

    def summary(self) -> Group:
        """Events, latency by stage, drops by reason."""
        events = Table(title="events", title_justify="left")
        for column in ("event", "started", "updated", "ended"):
            events.add_column(column, justify="left" if column == "event" else "right")
        for name, phases in sorted(self._phases.items()):
            events.add_row(name, *(str(phases[phase]) for phase in ("start", "update", "end")))
        latency = Table(title="latency of a start, ms, by stage", title_justify="left")
        for column in ("stage", "median", "p95"):
            latency.add_column(column, justify="left" if column == "stage" else "right")
        for stage, spent in self._latency_ms.items():
            p95 = quantiles(spent, n=20)[-1] if len(spent) > 1 else spent[0]
            latency.add_row(stage, f"{median(spent):.2f}", f"{max(min(p95, max(spent)), median(spent)):.2f}")
        drops = Table(title="sources", title_justify="left")
        for column in ("source", "state", "delivered", "analysed", "dropped"):
            drops.add_column(column, justify="right" if column in ("delivered", "analysed") else "left")
        for name, source in sorted(self.sources.items()):
            reasons = ", ".join(f"{reason} {count}" for reason, count in source["drops"].items()) or "nothing"
            counts = (str(source["delivered"]), str(source["analysed"]))
            drops.add_row(name, source["state"], *counts, reasons)
        troubles = [Text(trouble, style="red") for trouble in self.health.get("errors", [])]
        return Group(events, latency, drops, *troubles)


def _row(event: Event) -> tuple[str, ...]:
    seen = ", ".join(f"{one.label} {one.score:.2f}" for one in event.evidence)
    at = (event.ended_at or event.updated_at)[11:23]
    return at, event.type, event.phase, f"{event.score:.2f}", seen


def _watch(
    subscriber: Subscriber, seen: _Seen, seconds: float, process: subprocess.Popen[bytes], console: Console
) -> None:
    end = time.monotonic() + seconds
    with Live(seen.live(seconds), console=console, auto_refresh=False, transient=True) as live:
        while (left_s := end - time.monotonic()) > 0 and process.poll() is None:
            for topic, payload in subscriber.messages(0.1):
                seen.take(topic, payload)
                if not console.is_terminal and "/event/" in topic:
                    console.print("  ".join(_row(seen.events[-1])))
                if time.monotonic() > end:
                    break
            live.update(seen.live(left_s), refresh=console.is_terminal)
            states = {source["state"] for source in seen.sources.values()}
            if states and states <= {"ended", "failed"}:
                return


@contextmanager
def _daemon(config: Config, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as its own process, as systemd would run it."""
    settings = config.model_copy(update={"state_dir": str(folder / "state")})
    file = folder / "demo.yaml"
    file.write_text(settings.model_dump_json(exclude_none=True), encoding="utf-8")  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edged", "run", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the daemon in order
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _broker(url: str | None, stack: ExitStack) -> Mqtt:
    """The broker named, else one on this machine, else a built-in one."""
    if url is not None:
        try:
            return Mqtt(url=url)
        except ValidationError as error:
            raise typer.BadParameter(error.errors()[0]["msg"], param_hint="--mqtt") from error
    local = Mqtt(url=LOCAL)
    try:
        Subscriber(local, ["edged/demo/health"]).close()
    except EdgedError:
        return Mqtt(url=stack.enter_context(EmbeddedBroker()).url, protocol="3.1.1")
    return local


def _config(source: str | None, models: list[Path]) -> Config:
    """The shipped demo, with other sources and real models where they are named."""
    plain = load(shipped("configs") / "demo.yaml").model_dump(exclude_none=True)
    if source is not None:
        kinds = {CAMERA: "video", MICROPHONE: "audio"}
        rates = {name: plain["sources"][name]["rate_hz"] for name in kinds}
        url = source if "://" in source else str(Path(source).absolute())
        if url.startswith("/dev/"):
            del kinds[MICROPHONE]  # a camera has no sound
        plain["sources"] = {
            name: {"kind": "stream", "url": url, "modality": modality, "rate_hz": rates[name]}
            for name, modality in kinds.items()
        }
    if models:
        _add_models(plain, [str(folder) for folder in models])
    names = plain["sources"].keys()
    plain["models"] = {n: m for n, m in plain["models"].items() if names >= set(m["sources"])}
    plain["events"] = {
        name: rule
        for name, rule in plain["events"].items()
        if all(rule[one]["source"] in names for one in ("video", "audio") if one in rule)
    }
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(message, param_hint="--source") from error


def _add_models(plain: dict[str, Any], dirs: list[str]) -> None:
    """Those of the real models whose weights lie in `dirs`, and events of them."""
    plain["models_dirs"] = dirs
    person = {"source": CAMERA, "label": "person", "min_score": 0.5}
    found = []
    for name, card, source in (
        ("people", "yolox-nano", CAMERA),
        ("sounds", "yamnet", MICROPHONE),
        ("voice", "silero-vad", MICROPHONE),
    ):
        weights = load_card(card, dirs).weights
        try:
            if weights:
                find_weights(card, weights, dirs)
        except ModelError:
            continue
        found.append(card)
        plain["models"][name] = {"card": card, "sources": [source]}
    if not found:
        folders = ", ".join(dirs)
        raise typer.BadParameter(
            f"no weights of yolox-nano, yamnet or silero-vad in {folders}", param_hint="--models"
        )
    if "people" in plain["models"]:
        plain["events"]["person"] = {"video": person, "hold_s": 2}
        speech = plain["events"]["voice"]["audio"]
        plain["events"]["person_speaking"] = {"video": person, "audio": speech}
    if "sounds" in plain["models"]:
        siren = {"source": MICROPHONE, "label": ["siren", "smoke_alarm"], "min_score": 0.4}
        plain["events"]["alarm"] = {"audio": siren, "hold_s": 2}
        # Silero is the better judge of speech.
        for rule in plain["events"].values():
            if "speech" in rule.get("audio", {}).get("label", ()):
                rule["audio"]["model"] = "voice"
