"""Reading: what a key finds is read together with all that waits, a longer list on a connection of its own."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from common.hands import Hands

_READERS = 4
_AT_ONCE = 64
_BUSY_SECONDS = 5.0
_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA mmap_size = 0")


class Reader:
    """Make it by `open_reader`. No read transaction stays open over an await."""

    def __init__(self, path: Path, connections: Sequence[aiosqlite.Connection]) -> None:
        self._path = path
        self._all = connections
        self._free: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for connection in connections:
            self._free.put_nowait(connection)
        self._quick: sqlite3.Connection | None = None
        self._hands = Hands("store-reader", 1, _AT_ONCE)

    async def few(self, query: str, values: Any = ()) -> list[Any]:
        """Rows that an index leads to at once."""
        return await self._hands.do(self._fetch, query, values)

    async def many(self, query: str, values: Any = ()) -> list[Any]:
        """Rows that may take a while to find: they hold up none that are found at once."""
        connection = await self._free.get()
        try:
            return list(await connection.execute_fetchall(query, values))
        finally:
            self._free.put_nowait(connection)

    async def close(self) -> None:
        self._hands.close()
        await self._hands.closed()
        if self._quick is not None:
            self._quick.close()
        for connection in self._all:
            await connection.close()

    def _fetch(self, query: str, values: Any) -> list[Any]:
        if self._quick is None:
            made = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
            made.row_factory = sqlite3.Row
            for pragma in _PRAGMAS:
                made.execute(pragma)
            self._quick = made
        return self._quick.execute(query, values).fetchall()


async def open_reader(path: Path) -> Reader:
    """Of a database that is there."""
    connections = []
    for _ in range(_READERS):
        connection = await aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        connection.row_factory = sqlite3.Row
        for pragma in _PRAGMAS:
            await connection.execute(pragma)
        connections.append(connection)
    return Reader(path, connections)
