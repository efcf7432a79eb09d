"""The number of requests in flight: as many as the server bears.

Starts low, grows with every success (doubling each round trip) until the server first says 429, then by one a round
trip; each 429 cuts by a fifth. Errors of the server (5xx, cut connections) do not cut: they say nothing about the rate.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

START = 10
CUT = 0.8


class AdaptiveLimit:
    """A gate with a moving width; `maximum` bounds it.

    Attributes:
        width: requests that may be in flight now.
        highest: the most that were in flight at once.
    """

    def __init__(
        self,
        maximum: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.maximum = maximum
        self.width = float(min(START, maximum))
        self.in_flight = 0
        self.highest = 0
        self._sleep, self._clock = sleep, clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._throttled = False
        self._last_cut = float("-inf")
        self._closed_until = 0.0

    async def enter(self) -> float:
        """Wait for a place, and return when it was taken, for `throttle`."""
        while True:
            if (wait := self._closed_until - self._clock()) > 0:
                await self._sleep(wait)
                continue
            if self.in_flight < int(self.width):
                break
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                self._wake()
                raise
        self.in_flight += 1
        self.highest = max(self.highest, self.in_flight)
        return self._clock()

    def leave(self) -> None:
        self.in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        """Allow one more in flight: at once while the server never complained, else one a round trip."""
        if self.width < self.maximum:
            self.width = min(float(self.maximum), self.width + (1.0 / self.width if self._throttled else 1.0))
            self._wake()

    def throttle(self, entered_at: float, retry_after_seconds: float | None) -> None:
        """Narrow the gate after a 429 to a request that entered at `entered_at`.

        Requests of one burst cut once: those that left before the last cut say nothing about the new width.
        """
        self._throttled = True
        now = self._clock()
        if entered_at > self._last_cut:
            self.width = max(1.0, self.width * CUT)
            self._last_cut = now
        if retry_after_seconds is not None:
            self._closed_until = max(self._closed_until, now + retry_after_seconds)

    def pause(self, seconds: float) -> None:
        """Let nobody enter for so long."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _wake(self) -> None:
        """Wake as many waiting requests as there are places."""
        places = int(self.width) - self.in_flight
        while places > 0 and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                places -= 1
