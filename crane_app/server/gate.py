"""How many answers are made at once, and how many may wait for their turn: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crane_app.server.problems import Problem, refused

LONGEST = 1024  # requests that wait


class Gate:
    """`seats` answers at once; on the loop's thread alone."""

    def __init__(self, seats: int, longest: int = LONGEST) -> None:
        self.seats, self.free, self.longest = seats, seats, longest
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def taken(self) -> int:
        return self.seats - self.free

    @asynccontextmanager
    async def enter(self, seats: int, turns: list[asyncio.Future[None]]) -> AsyncIterator[None]:
        """So many seats for as long as the context lasts. Problem 400 for more than there are, 429 for a full queue.

        turns: holds what is waited for meanwhile; cancelling that gives the place up.
        """
        if seats > self.seats:
            raise refused("n", f"n asks for {seats} answers; this server makes at most {self.seats} at once.")
        await self._seated(seats, turns)
        try:
            yield
        finally:
            self.free += seats
            self._call()

    async def _seated(self, seats: int, turns: list[asyncio.Future[None]]) -> None:
        if not self._waiting and seats <= self.free:
            self.free -= seats
            return
        if len(self._waiting) >= self.longest:
            raise Problem(
                429, f"{self.longest} requests are waiting already. Try again in a moment.", code="queue_full"
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((seats, turn))
        turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free += seats
            else:
                self._waiting.remove((seats, turn))
            self._call()
            raise
        finally:
            turns.remove(turn)

    def _call(self) -> None:
        """Seat who is next, as long as there is room."""
        while self._waiting and self._waiting[0][0] <= self.free:
            seats, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= seats
                turn.set_result(None)
