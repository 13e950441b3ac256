"""Chromium as a person uses it: pages that are clicked, typed into, looked at, and what they complain about.

It is spoken to by the DevTools protocol through a pipe (``--remote-debugging-pipe``: requests on descriptor
3, answers on 4, each JSON and a zero byte), which needs no library and opens no port.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Message = dict[str, Any]
PATIENCE = 40.0


class Chromium:
    """A browser with a profile of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("chromium")
        if program is None:
            pytest.skip("no chromium here")
        argv = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        argv += [f"--user-data-dir={folder / 'profile'}", "--no-first-run", "--disable-extensions"]
        argv += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "about:blank"]
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()

        def enter() -> None:
            high = [os.dup2(fd, number) for fd, number in ((theirs_in, 103), (theirs_out, 104))]
            for fd, number in zip(high, (3, 4), strict=True):
                os.dup2(fd, number)

        log = (folder / "chromium.log").open("wb")
        self.process = subprocess.Popen(argv, pass_fds=(3, 4), preexec_fn=enter, stdout=log, stderr=log)
        for each in (theirs_in, theirs_out):
            os.close(each)
        log.close()
        self._rest, self._count = b"", 0
        self.events: list[Message] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> Message:
        """Ask for something; what happens meanwhile goes to ``events``."""
        self._count += 1
        asked = {"id": self._count, "method": method, "params": params}
        os.write(self._to, json.dumps(asked | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (told := self._next()).get("id") != self._count:
            self.events.append(told)
        assert "error" not in told, (method, told)
        return dict(told["result"])

    def _next(self) -> Message:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(until - time.monotonic(), 0))
            assert ready, "chromium says nothing"
            part = os.read(self._from, 1 << 20)
            assert part, "chromium has died"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def page(self, url: str, width: int = 1280, height: int = 800) -> Page:
        """A new page, in a window of that size."""
        return Page(self, self.call("Target.createTarget", url="about:blank")["targetId"], url, width, height)

    def opened(self) -> list[str]:
        """What pages there are, by their addresses."""
        found = self.call("Target.getTargets")["targetInfos"]
        return [each["url"] for each in found if each["type"] == "page"]

    def close(self) -> None:
        self.call("Browser.close")
        self.process.wait(20)
        for end in (self._to, self._from):
            os.close(end)


class Page:
    """A page of it."""

    def __init__(self, browser: Chromium, target: str, url: str, width: int, height: int) -> None:
        self._browser = browser
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.call("Page.navigate", url=url)

    def call(self, method: str, **params: Any) -> Message:
        return self._browser.call(method, self._session, **params)

    def front(self) -> None:
        """Before all others, which are not seen any more."""
        self.call("Page.bringToFront")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 700,
        )  # fmt: skip

    def theme(self, name: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def text(self, selector: str = "body") -> str:
        return str(self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never: {expression}\n{self.text()}"
            time.sleep(0.05)
        return found

    def until_text(self, words: str, selector: str = "body", seconds: float = PATIENCE) -> None:
        here = f"document.querySelector({json.dumps(selector)})"
        self.until(f"({here}?.innerText ?? '').includes({json.dumps(words)})", seconds)

    def click(self, selector: str, containing: str = "") -> None:
        """Press the mouse where the first visible element is that fits; what lies over it would get it."""
        found = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find((e) => e.innerText.includes({json.dumps(containing)}) && e.getClientRects().length)"
        )
        self.until(f"Boolean({found}) && !{found}.disabled")
        place = self.value(
            f"(() => {{ const e = {found}; e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def write(self, selector: str, text: str) -> None:
        """Put a text into a field, instead of what is there, as from a keyboard."""
        here = f"document.querySelector({json.dumps(selector)})"
        self.until(f"Boolean({here})")
        self.value(f"{here}.focus(), {here}.select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def picture(self, place: Path) -> None:
        """What is in the window, as a PNG file."""
        place.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self, but: str = "nothing") -> list[str]:
        """What the console has: errors, warnings, violations of the policy, uncaught exceptions.

        Each is said once; what contains ``but`` is meant to be there.
        """
        self.value("0")  # what was said before has arrived then
        found, events = [], self._browser.events
        mine = [event for event in events if event.get("sessionId") == self._session]
        events[:] = [event for event in events if event not in mine]
        for event in mine:
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            if event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(params["args"]))
        return [each for each in found if but not in each]


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """A browser that is closed afterwards."""
    made = Chromium(folder)
    try:
        yield made
    finally:
        made.close()
