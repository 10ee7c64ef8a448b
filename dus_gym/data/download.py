"""One URL to one file, going on where a cut connection stopped."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from dus_gym.errors import FetchError

CHUNK = 1 << 18
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as cut."""
ATTEMPTS = 4
"""Failures in a row, none of which brought a byte, before giving up."""
WAIT = 1.0
"""Seconds before the second attempt; twice as long before each further one."""
LONGEST_WAIT = 60.0
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another attempt may change."""


def download(url: str, path: Path, most: int, exact: bool = True, got: Callable[[int], None] | None = None) -> None:
    """Fetch a URL into ``path``; what is there already is taken as its beginning.

    Args:
        url: http or https.
        path: grows while bytes arrive, and is kept when the download fails so that the next call goes on.
        most: bytes the file has, or may have.
        exact: whether it must have exactly ``most`` bytes; if not, it ends where the server says.
        got: called with the number of bytes in ``path`` whenever it changes.

    Raises:
        FetchError: naming the URL and what the server said, when it does not have the file, sends too much, or the
            connection failed again and again.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"url={url!r} is not allowed; only http and https are.")
    failures, furthest = 0, _size(path)
    while True:
        wait = min(WAIT * 2.0**failures, LONGEST_WAIT)
        try:
            if _attempt(url, path, most, exact, got):
                return
            reason = f"the connection ended after {_size(path)} bytes"
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code == 416:
                # What is there is no beginning of the file.
                path.unlink(missing_ok=True)
            elif error.code not in AGAIN:
                raise FetchError(f"{url} can't be had: {reason}.") from error
            wait = max(wait, _retry_after(error))
            error.close()
        except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, HTTPException) as error:
            # Not every OSError: a full disk is none of the server's doing.
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(path) > furthest else failures + 1
        furthest = max(furthest, _size(path))
        if failures >= ATTEMPTS:
            raise FetchError(f"{url} can't be had: {reason}, after {ATTEMPTS} attempts. Call again to go on.")
        time.sleep(wait)


def _attempt(url: str, path: Path, most: int, exact: bool, got: Callable[[int], None] | None) -> bool:
    """Make one request; return whether the file is whole now."""
    start = _size(path)
    if exact and start == most:
        return True
    if start > most:
        path.unlink()
        start = 0
    # Without identity a server may send a packed file, whose bytes and ranges are others.
    headers = {"User-Agent": "dus-gym", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    response: HTTPResponse
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if response.status == 206 and not resumed:
            path.unlink(missing_ok=True)
            return False
        length = response.headers.get("Content-Length")
        with path.open("ab" if resumed else "wb") as file:
            done = start if resumed else 0
            expected = None if length is None else done + int(length)
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if done > most:
                    raise FetchError(f"{url} sends more than the {most} bytes it should have.")
                file.write(chunk)
                if got is not None:
                    got(done)
    return done == most if exact else expected is None or done == expected


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Return the seconds that the server asks to wait; its dates are not read."""
    text = error.headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT) if text.isdigit() else 0.0
