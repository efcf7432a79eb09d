"""A headless Chromium driven over its DevTools protocol: real keys, real clicks, every request seen."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *(
        "--disable-sync",
        "--disable-extensions",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        "--window-size=1400,900",
    ),
)
PATIENCE_SECONDS = 30.0
KEYS = {
    "Enter": ("\r", 13),
    "Escape": ("", 27),
    "ArrowRight": ("", 39),
    "ArrowLeft": ("", 37),
    "ArrowDown": ("", 40),
    "Tab": ("", 9),
    "End": ("", 35),
}


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Page:
    """One tab.

    `errors` are uncaught exceptions, refused scripts and console errors; `requests` are all addresses that it asked
    for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Any) -> None:
        self._loop, self._socket, self._number = loop, socket, 0
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self.requests: list[str] = []
        self.errors: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._replies.pop(event["id"]).set_result(event)
            else:
                self._note(event["method"], event["params"])

    def _note(self, method: str, said: Mapping[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(
                str(said["exceptionDetails"].get("exception", {}).get("description", said["exceptionDetails"]["text"]))
            )
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol and its result."""
        return asyncio.run_coroutine_threadsafe(self._call(method, parameters), self._loop).result(PATIENCE_SECONDS)

    async def _call(self, method: str, parameters: Mapping[str, Any]) -> Any:
        self._number += 1
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._replies[self._number] = reply
        await self._socket.send_str(json.dumps({"id": self._number, "method": method, "params": parameters}))
        event = await reply
        assert "error" not in event, event
        return event["result"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, script: str) -> Any:
        """The expression's value as soon as it is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.02)
        raise AssertionError(
            f"never true: {script}\nthe page says: {self.run('document.body.innerText.slice(0, 1500)')}\nerrors: "
            f"{self.errors}"
        )

    def open(self, file: Path, fragment: str = "") -> None:
        """Open a file afresh, and wait until its first view is drawn."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url=file.resolve().as_uri() + fragment)
        self.wait(
            "document.readyState === 'complete' && !!document.querySelector('main h1') && "
            "!document.querySelector('main .loading')"
        )

    def go(self, fragment: str, until: str) -> None:
        """Another route of the open page."""
        self.run(f"location.hash = {json.dumps(fragment)}; 0")
        self.wait(until)

    def press(self, key: str) -> None:
        text, code = KEYS.get(key, (key, ord(key[0].upper())))
        facts = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, script: str) -> None:
        """Click the middle of the element that an expression gives."""
        middle = "const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2];"
        box = self.run(
            f"(() => {{ const element = {script}; element.scrollIntoView({{block: 'center'}}); {middle} }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        """light or dark"""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def started(executable: str) -> Iterator[Page]:
    """A browser with a profile of its own, and its one page; ended by its process when the block ends."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            session, page = asyncio.run_coroutine_threadsafe(_connect(loop, Path(profile)), loop).result(60)
            for domain in ("Page", "Runtime", "Network", "Log"):
                page.call(f"{domain}.enable")
            yield page
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(10)
        finally:
            process.terminate()
            process.wait(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


async def _connect(loop: asyncio.AbstractEventLoop, profile: Path) -> tuple[Any, Page]:
    """The first tab: its port stands in a file of the profile."""
    import aiohttp

    port_file, end = profile / "DevToolsActivePort", time.monotonic() + 50
    while not (port_file.exists() and port_file.read_text().count("\n")):
        assert time.monotonic() < end, "chromium did not start"
        await asyncio.sleep(0.05)
    port = int(port_file.read_text().split("\n")[0])
    session = aiohttp.ClientSession()
    tabs = await (await session.get(f"http://127.0.0.1:{port}/json/list")).json()
    address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    page = Page(loop, await session.ws_connect(address, max_msg_size=0))
    page.listening = loop.create_task(page.listen())  # type: ignore[attr-defined]
    return session, page
