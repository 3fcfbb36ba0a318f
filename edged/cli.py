"""The command line. Exit codes: 0, 1 for a failure at run time, 2 for usage or configuration."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edged import __version__
from edged.errors import ConfigError, EdgedError, ModelError

if TYPE_CHECKING:
    from edged.config.schema import Config, Mqtt
    from edged.daemon import Options
    from edged.wire.event import Event

RUN_TIME, USAGE = 1, 2

app = typer.Typer(
    name="edged",
    help="Cameras and microphones in, fused events over MQTT out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration, YAML.")]
ModelsOption = Annotated[
    list[Path] | None,
    typer.Option("--models", metavar="DIR", help="A folder with model cards and weights; may be repeated."),
]
MqttOption = Annotated[
    str | None,
    typer.Option("--mqtt", metavar="URL", help="Another broker than the configuration's; 'none' for none."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def main() -> None:
    """The console script."""
    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(USAGE)
    except EdgedError as error:
        typer.echo(f"edged: {error}", err=True)
        sys.exit(RUN_TIME)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edged {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(config: ConfigArgument, models: ModelsOption = None, mqtt: MqttOption = None) -> None:
    """Run the daemon until it is told to stop (SIGTERM, Ctrl-C)."""
    from edged.daemon import Options

    settings = _load(config, models, mqtt)
    on_event = None if settings.mqtt else _print_json
    _run_daemon(settings, Options(), on_event=on_event)


@app.command()
def replay(
    config: ConfigArgument,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Read source NAME, and those that share its URL, from FILE; may be repeated.",
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Read all sources from what `edged record` wrote there."),
    ] = None,
    models: ModelsOption = None,
    mqtt: MqttOption = None,
    paced: Annotated[bool, typer.Option("--paced", help="At the recording's own speed, as live.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run files through the daemon, from their beginning to their end, and print the events.

    Without --paced every frame is analysed, as fast as it goes, and the events are the same each time.
    Times count from 1970-01-01T00:00:00Z, so that they read as positions in the recording.
    """
    from edged.daemon import Options
    from edged.record import files_of
    from edged.replay import Progress, with_files

    settings = _load(config, models, mqtt)
    files = files_of(recording, settings.sources) if recording else {}
    # What is named later counts: a single source can still be read from elsewhere.
    settings = with_files(settings, [f"{name}={file}" for name, file in files.items()])
    settings = with_files(settings, source) if source else settings
    progress = Progress(settings, shown=sys.stderr.isatty())
    show = _print_json if as_json else _print_event
    with progress:
        _run_daemon(
            settings,
            Options(replay=True, paced=paced),
            on_event=show,
            on_progress=progress.at,
            log_level=logging.WARNING,
        )


@app.command()
def record(
    config: ConfigArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that is new or empty.")],
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; by default never.")
    ] = None,
) -> None:
    """Record what the sources deliver, for `edged replay --recording OUT`, until Ctrl-C.

    Nothing is analysed or published. Whatever ends the recording, it is whole up to its last packet.
    """
    from edged.daemon import Options
    from edged.record import bytes_of, for_recording, prepare, tape_of

    settings = for_recording(_load(config, None, None))
    prepare(out, settings)
    begun = time.monotonic()
    shown = sys.stderr.isatty()

    def progress(_: float) -> None:
        if shown:
            so_far = f"{time.monotonic() - begun:.0f} s, {bytes_of(out) / 1e6:.1f} MB"
            typer.echo(f"\rrecording into {out}: {so_far} ", nl=False, err=True)

    options = Options(record=out.absolute())
    _run_daemon(settings, options, on_progress=progress, log_level=logging.WARNING, seconds=seconds)
    if shown:
        typer.echo(err=True)
    if nothing := [name for name in settings.sources if not tape_of(out, name)]:
        raise EdgedError(f"nothing came of {', '.join(nothing)}")


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long to run.")] = 20.0,
    source: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL|DEVICE", help="Instead of the rendered scene."),
    ] = None,
    models: ModelsOption = None,
    mqtt: Annotated[
        str | None,
        typer.Option("--mqtt", metavar="URL", help="A broker; by default a local or a built-in one."),
    ] = None,
) -> None:
    """Show what edged does: no camera, no microphone, no broker, no download needed."""
    from edged.demo import run_demo

    run_demo(seconds=seconds, source=source, models=[path.absolute() for path in models or []], mqtt=mqtt)


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The configuration.")] = None,
    models: ModelsOption = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the configuration's JSON Schema, for editors.")
    ] = False,
    event_schema: Annotated[
        bool, typer.Option("--event-schema", help="Print the JSON Schema of the published events.")
    ] = False,
) -> None:
    """Check a configuration; print every error as file:line:column: message."""
    if schema or event_schema:
        from edged.config.schema import json_schema as config_schema
        from edged.wire.event import json_schema

        typer.echo(json.dumps(config_schema() if schema else json_schema(), indent=2))
        return
    if file is None:
        raise typer.BadParameter("name a file, or --schema", param_hint="FILE")
    settings = _load(file, models, None)
    sources, events = len(settings.sources), len(settings.events)
    typer.echo(f"{file}: no errors ({sources} sources, {len(settings.models)} models, {events} events)")


@app.command()
def devices(as_json: JsonOption = False) -> None:
    """List the cameras, the microphones, and the engines that work here."""
    from rich.console import Console

    from edged.devices import find, show

    found = find()
    if as_json:
        _print(found.to_json())
    else:
        show(found, Console())


@app.command()
def watch(
    mqtt: Annotated[str, typer.Option("--mqtt", metavar="URL", help="The broker.")] = "mqtt://127.0.0.1:1883",
    device: Annotated[str, typer.Option(help="Only this device; by default all.")] = "+",
    prefix: Annotated[str, typer.Option(help="The first level of the topics.")] = "edged",
    username: Annotated[str | None, typer.Option(help="The user at the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the password alone.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the events that arrive at a broker."""
    from edged.publish.subscriber import Subscriber
    from edged.wire.event import Event

    broker = _mqtt(
        {"url": mqtt, "username": username, "password_file": str(password_file) if password_file else None}
    )
    if device != "+" and not device.replace("-", "").replace("_", "").isalnum():
        raise typer.BadParameter("a device's name has a-z 0-9 _ -", param_hint="--device")
    left = count
    with Subscriber(broker, [f"{prefix}/{device}/event/#"]) as subscriber:
        _end_quietly()
        for topic, payload in subscriber.messages(None):
            if as_json:
                _print(payload.decode())
            else:
                try:
                    _print_event(Event.from_json(payload))
                except ValueError as error:
                    typer.echo(f"{topic}: no event: {error}", err=True)
            left = left - 1 if left else None
            if left == 0:
                return


def _end_quietly() -> None:
    """Ctrl-C and SIGTERM are how one ends a command that runs for ever."""

    def end(*_: object) -> None:
        raise typer.Exit(0)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)


def _load(path: Path, models: list[Path] | None, mqtt: str | None) -> Config:
    from edged.config.load import read, validate
    from edged.config.schema import Config
    from edged.labels import check_labels
    from edged.perceive.cards import load_card

    document = read(path)
    config = validate(document, Config, path.absolute().parent)
    dirs = tuple(str(folder.absolute()) for folder in models or [])
    if strange := [folder for folder in dirs if not Path(folder).is_dir()]:
        raise typer.BadParameter(f"{strange[0]} is no folder", param_hint="--models")
    config = config.model_copy(update={"models_dirs": (*dirs, *config.models_dirs)})
    cards, problems = {}, []
    for name, model in config.models.items():
        try:
            cards[name] = load_card(model.card, config.models_dirs)
        except ModelError as error:
            problems.append(document.problem(("models", name, "card"), str(error)))
    problems += [document.problem(place, message) for place, message in check_labels(config, cards)]
    if problems:
        raise ConfigError(problems)
    if mqtt is not None:
        broker = None
        if mqtt != "none":
            broker = _mqtt((config.mqtt.model_dump() if config.mqtt else {}) | {"url": mqtt})
        config = config.model_copy(update={"mqtt": broker})
    return config


def _mqtt(values: dict[str, Any]) -> Mqtt:
    from pydantic import ValidationError

    from edged.config.schema import Mqtt

    try:
        return Mqtt.model_validate(values)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(message, param_hint="--mqtt") from error


def _run_daemon(
    config: Config,
    options: Options,
    *,
    on_event: Callable[[Event], None] | None = None,
    on_progress: Callable[[float], None] | None = None,
    log_level: int = logging.INFO,
    seconds: float | None = None,
) -> None:
    from edged.daemon import Daemon
    from edged.wire.worker import set_up_logging

    set_up_logging("daemon", log_level)

    async def live() -> None:
        daemon = Daemon(config, options, on_event=on_event, on_progress=on_progress)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        if seconds is not None:
            loop.call_later(seconds, daemon.stop)
        await daemon.run()

    asyncio.run(live())


def _print_json(event: Event) -> None:
    _print(event.to_json().decode())


def _print_event(event: Event) -> None:
    seen = ", ".join(f"{one.label} {one.score:.2f} ({one.source})" for one in event.evidence)
    at = event.ended_at or event.updated_at
    _print(f"{at}  {event.phase:<6}  {event.type:<20}  {event.score:.2f}  {seen}")


def _print(line: str) -> None:
    try:
        print(line, flush=True)  # noqa: T201 - what the command is for
    except BrokenPipeError:
        # Whoever read has gone (`| head`): nothing more to say, and an orderly end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.kill(os.getpid(), signal.SIGTERM)
