"""Headless Chromium, driven over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    # Nothing has an address, should anybody ask.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
)
DEADLINE = 120.0  # seconds


class Page:
    """One tab.

    Attributes:
        problems: What its console has said of errors, uncaught exceptions and what was blocked.
        requests: Every address that it has asked for; what an address itself contains is not asked for.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, count(1)
        self._loaded = False
        self.problems: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, address: str) -> None:
        """Go there, and wait until all is loaded."""
        self._loaded = False
        self._call("Page.navigate", url=address)
        while not self._loaded:
            self._receive()

    def look(self, width: int, dark: bool, height: int = 900) -> None:
        """Become a screen of so many pixels, whose owner prefers dark or light."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        # Two frames later what listens to sizes has been told.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, script: str) -> Any:
        """What a JavaScript expression comes to, waited for if it is a promise."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key that writes a character."""
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def photograph(self, picture: Path, whole: bool = True) -> None:
        """Write what it looks like as a PNG: the whole page, or the screen alone."""
        data = self._call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        picture.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != number:
            pass
        assert "error" not in message, (method, message)
        return dict(message["result"])

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._connection.recv(timeout=DEADLINE))
        told = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.problems.append(str(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.problems.append(str(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.problems.append(str(told["entry"]))
            case "Network.requestWillBeSent" if not told["request"]["url"].startswith("data:"):
                self.requests.append(told["request"]["url"])
        return dict(message)


@contextmanager
def chromium_page(profile: Path) -> Iterator[Page]:
    """A browser with one tab, and an empty folder for its profile."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert browser, f"no {', '.join(BROWSERS)} on the PATH: apt-get install -y chromium"
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        port = _port(profile / "DevToolsActivePort", process)
        with connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, proxy=None) as browser_connection:
            address = _tab(browser_connection, port[0])
        with connect(address, max_size=None, proxy=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Port and path where the browser listens, once it has said so."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        assert process.poll() is None, f"Chromium has ended with exit code {process.returncode}"
        if file.exists() and len(lines := file.read_text().splitlines()) == 2:
            return int(lines[0]), lines[1]
        time.sleep(0.05)
    raise TimeoutError(f"Chromium has not begun to listen in {DEADLINE:.0f} s")


def _tab(connection: ClientConnection, port: int) -> str:
    """The address of a new tab."""
    connection.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
    while (message := json.loads(connection.recv(timeout=DEADLINE))).get("id") != 1:
        pass
    return f"ws://127.0.0.1:{port}/devtools/page/{message['result']['targetId']}"
