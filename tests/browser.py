"""A real headless Chromium, spoken to over the DevTools protocol through a pair of pipes: no driver, no package.

``python tests/browser.py PAGE.html PICTURE.png [--width 375] [--height 900] [--at ID] [--scheme dark]
[--media print]`` takes a picture of a page.
"""

import argparse
import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

BINARY = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
MISSING = "no Chromium on this machine; apt-get install chromium"


class Browser:
    """One page. Use as a context manager."""

    def __init__(self, width=1280, height=900):
        self.home = tempfile.TemporaryDirectory(prefix="dus-chromium-", ignore_cleanup_errors=True)
        down, up = os.pipe(), os.pipe()

        def give_pipes():  # Chromium reads descriptor 3 and writes descriptor 4
            ours, theirs = os.dup(down[0]), os.dup(up[1])
            os.dup2(ours, 3)
            os.dup2(theirs, 4)

        words = [BINARY, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        words += ["--hide-scrollbars", "--disable-dev-shm-usage", f"--user-data-dir={self.home.name}", "about:blank"]
        self.process = subprocess.Popen(
            words, preexec_fn=give_pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(down[0])
        os.close(up[1])
        self._down, self._up = os.fdopen(down[1], "wb"), os.fdopen(up[0], "rb")
        self._rest, self._id, self._session = b"", 0, None
        self.events = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.send("Browser.close")
        self.process.wait(timeout=30)
        self._down.close()
        self._up.close()
        self.home.cleanup()

    def _receive(self):
        while b"\0" not in self._rest:
            data = os.read(self._up.fileno(), 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def send(self, method, **parameters):
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._down.write(json.dumps(message).encode() + b"\0")
        self._down.flush()
        while (answer := self._receive()).get("id") != self._id:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, path):
        """Loads a file and waits for it."""
        self.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def size(self, width, height=900, phone=False):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def media(self, scheme="light", kind=""):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=kind, features=features)

    def run(self, script):
        """The value of an expression in the page."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def move(self, x, y):
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name, code=0, text=""):
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **more)

    def picture(self, path, whole=True):
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def pdf(self, path):
        Path(path).write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"]))

    def requests(self):
        """Addresses asked for since the page was opened, other than the page's own file and what is inside it."""
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("file:", "data:"))]

    def complaints(self):
        """Errors and warnings of the console since the page was opened."""
        return [
            event["params"]
            for event in self.events
            if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]


def main():
    """Take a picture of a page."""
    from PIL import Image

    line = argparse.ArgumentParser(description="Take a picture of a page.")
    line.add_argument("page", type=Path)
    line.add_argument("picture", type=Path)
    line.add_argument("--width", type=int, default=1280)
    line.add_argument("--height", type=int, help="the whole page if not given")
    line.add_argument("--at", help="id of the element at which the picture begins")
    line.add_argument("--scheme", choices=["light", "dark"], default="light")
    line.add_argument("--media", choices=["screen", "print"], default="screen")
    asked = line.parse_args()
    with Browser() as page:
        page.size(asked.width, asked.height or 900, phone=asked.width < 640)
        page.media(asked.scheme, asked.media)
        page.open(asked.page)
        if asked.at is not None:
            page.run(f"document.getElementById({json.dumps(asked.at)}).scrollIntoView()")
        page.picture(asked.picture, whole=asked.height is None)
    # A palette makes the file a third as large.
    whole = Image.open(io.BytesIO(asked.picture.read_bytes())).convert("RGB")
    whole.quantize(256, dither=Image.Dither.NONE).save(asked.picture, optimize=True)


if __name__ == "__main__":
    main()
