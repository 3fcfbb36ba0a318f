"""A stream's URL: what may be opened, and who may see its secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from edged.errors import SourceError

PROTOCOLS = {
    # What FFmpeg may open for each scheme: a playlist or a redirect must not lead elsewhere.
    "": "file",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tls,tcp",
}
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def checked(url: str, folder: str | None) -> str:
    """The URL, or the path counted from `folder`; ValueError when it is neither."""
    if any(ord(sign) < 32 for sign in url):
        raise ValueError("a URL holds no control characters")
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in PROTOCOLS:
        raise ValueError(f"'{scheme}://' is not supported; a file, {', '.join(s for s in PROTOCOLS if s)}")
    if scheme:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("the URL names no host")
        if "@" in url and "@" not in parts.netloc:
            raise ValueError("a password with / ? or # has to be percent-encoded; or name a 'password_file'")
        return url
    return str(Path(folder, url).absolute()) if folder else url


def redact(url: str) -> str:
    """The URL without user and password, for messages."""
    if "://" not in url or "@" not in url:
        return url
    parts = urlsplit(url)
    if "@" not in parts.netloc:  # an unquoted / in the password
        return f"{parts.scheme}://{url.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_secrets(url: str, username: str | None, password_file: str | None) -> str:
    """The URL with the variables and the user put in: for FFmpeg's eyes only.

    Raises:
        SourceError: a variable is not set, or the password can't be read.
    """

    def value(found: re.Match[str]) -> str:
        if (text := os.environ.get(found[1])) is None:
            message = f"{redact(url)}: the environment variable {found[1]} is not set"
            raise SourceError(message, permanent=True)
        return quote(text, safe="")

    if "://" not in url:
        return url
    url = VARIABLE.sub(value, url)
    if not username:
        return url
    user = quote(username, safe="")
    if password_file:
        try:
            password = Path(password_file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise SourceError(f"{password_file}: can't be read: {why}") from error
        user += ":" + quote(password, safe="")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))
