"""Serves an MP4 file (H.264 and AAC) over RTSP with GStreamer, until it is killed.

Run by the system's Python, which has PyGObject; it imports nothing of edged. It prints one line: `listening`,
or what is missing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

PARTS = ("qtdemux", "rtph264pay", "rtpmp4gpay", "rtpbin")
PIPELINE = (
    "( filesrc location={film} ! qtdemux name=film"
    " film.video_0 ! queue ! rtph264pay name=pay0 pt=96 config-interval=-1"
    " film.audio_0 ! queue ! rtpmp4gpay name=pay1 pt=97 )"
)


def load() -> dict[str, Any]:
    """The parts of GStreamer by name; PyGObject has no stubs."""
    try:
        gi: Any = importlib.import_module("gi")
        for name in ("Gst", "GstRtsp", "GstRtspServer"):
            gi.require_version(name, "1.0")
        found = {
            name: importlib.import_module(f"gi.repository.{name}")
            for name in ("GLib", "Gst", "GstRtsp", "GstRtspServer")
        }
    except (ImportError, ValueError) as error:
        sys.exit(f"PyGObject with GstRtspServer: {error}")
    found["Gst"].init(None)
    for part in PARTS:
        if not found["Gst"].ElementFactory.find(part):
            sys.exit(f"GStreamer's {part}")
    return found


def main() -> None:
    """Serves `/film`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("film")
    parser.add_argument("port")
    parser.add_argument("--login", metavar="USER:PASSWORD", default="")
    parser.add_argument("--digest", action="store_true")
    arguments = parser.parse_args()
    part = load()
    rtsp = part["GstRtspServer"]
    server = rtsp.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(PIPELINE.format(film=arguments.film))
    if arguments.login:
        user, _, password = arguments.login.partition(":")
        token = rtsp.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth = rtsp.RTSPAuth()
        if arguments.digest:
            auth.set_supported_methods(part["GstRtsp"].RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        else:
            auth.add_basic(rtsp.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        role = part["Gst"].Structure.new_empty("viewer")
        for right in ("media.factory.access", "media.factory.construct"):
            role.set_value(right, True)
        permissions = rtsp.RTSPPermissions()
        permissions.add_role_from_structure(role)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/film", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {arguments.port}")
    print("listening", flush=True)  # noqa: T201 - whoever started it reads this
    part["GLib"].MainLoop().run()


main()
