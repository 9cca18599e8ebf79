"""Threads for short pieces of work, as reading a row or making a folder: what waits is done and told together.

A piece that goes to a thread alone costs two wake-ups and a fight for the interpreter's lock, more than most pieces do.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Piece:
    __slots__ = ("arguments", "error", "future", "more", "result", "work")

    def __init__(
        self, future: "asyncio.Future[Any]", work: Callable[..., Any], arguments: Sequence[Any], more: dict[str, Any]
    ) -> None:
        self.future = future
        self.work = work
        self.arguments = arguments
        self.more = more
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        if not self.future.cancelled():
            try:
                self.result = self.work(*self.arguments, **self.more)
            except StopIteration as e:  # no future takes one
                self.error = RuntimeError("StopIteration was raised")
                self.error.__cause__ = e
            except BaseException as e:  # whatever it is, it is for whoever asked; without this frame, which holds it
                self.error = e.with_traceback(e.__traceback__ and e.__traceback__.tb_next)

    def tell(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Hands:
    """`threads` threads, begun when they are needed; one of them takes up to `at_once` pieces that wait.

    What is asked for in one turn of the loop goes to them together, and the loop is woken once for what a thread took.
    What hangs, in a file system for one, holds up what was taken with it and nothing else, and no end waits for it.
    """

    def __init__(self, name: str, threads: int, at_once: int) -> None:
        self._name = name
        self._most = threads
        self._at_once = at_once
        self._asked: list[_Piece] = []
        self._queue: SimpleQueue[Sequence[_Piece]] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._undone = 0
        self._closed = False

    async def do(self, work: Callable[P, R], *arguments: P.args, **more: P.kwargs) -> R:
        """What `work(...)` gives or raises. Who leaves before takes nothing back that was begun.

        Raises `RuntimeError` after `close`.
        """
        if self._closed:
            raise RuntimeError(f"{self._name}: closed, nothing is begun any more")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._hand_out)
        self._asked.append(_Piece(future, work, arguments, more))
        self._undone += 1
        return await future

    def close(self) -> None:
        """Let the threads end after what waits; may be called again."""
        if self._closed:
            return
        self._hand_out()
        self._closed = True
        for _ in self._threads:
            self._queue.put(())

    async def closed(self) -> None:
        """After `close`: until the threads have ended."""
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _hand_out(self) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), self._at_once):
            self._queue.put(asked[start : start + self._at_once])
            if len(self._threads) < min(self._most, self._undone):
                self._begin()

    def _begin(self) -> None:
        """One thread more; where the machine has none left, those that there are do it later."""
        thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as e:
            if not self._threads:
                self._refuse(e)
            return
        self._threads.append(thread)

    def _refuse(self, error: RuntimeError) -> None:
        with suppress(Empty):
            while True:
                pieces = self._queue.get_nowait()
                for piece in pieces:
                    piece.error = error
                self._tell(pieces)

    def _run(self) -> None:
        while given := self._queue.get():
            taken = [*given]
            with suppress(Empty):
                while len(taken) < self._at_once:
                    if not (more := self._queue.get_nowait()):
                        self._queue.put(more)  # the end, for whoever comes next
                        break
                    taken += more
            for piece in taken:
                piece.do()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                taken[0].future.get_loop().call_soon_threadsafe(self._tell, taken)

    def _tell(self, taken: Sequence[_Piece]) -> None:
        self._undone -= len(taken)
        for piece in taken:
            piece.tell()
