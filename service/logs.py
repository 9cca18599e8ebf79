"""A job's `train.log` for readers: its end, a part of it, or all that is still to come; secrets masked once more."""

import asyncio
import codecs
import errno
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from attrs import field, frozen

from service.masker import Masker

__all__ = ["Chunk", "Masker", "Shown", "View", "follow", "read_chunk", "read_from", "tail"]

_BLOCK = 64 << 10
_LARGEST_TAIL = 8 << 20
_LEAST = 4096
_HOLE = 512
_NULS = re.compile(rb"\0+")
_FIRST_POLL, _LAST_POLL = 0.1, 1.0


@frozen(kw_only=True)
class View:
    """How a log is shown: without secrets, and with long lines cut (None: never)."""

    masker: Masker = field(factory=lambda: Masker(()))
    line_bytes: int | None = None


@frozen
class Chunk:
    """Text as it is served (UTF-8), and the offset in the file where the next chunk begins."""

    text: bytes
    offset: int


class Shown:
    """Turns the bytes of a log into what is shown, piece by piece.

    NUL bytes that a trimmed log has in place of its middle become one line, secrets become a mask, long lines are cut,
    and a piece never ends inside a character. `pending` counts source bytes that are held back until more is known.
    """

    def __init__(self, view: View, *, at_line_start: bool = True) -> None:
        self._mask = view.masker.stream()
        self._limit = view.line_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._nuls = 0
        self._fresh_line = at_line_start
        self._length = 0
        self._dropped = 0

    @property
    def pending(self) -> int:
        return self._nuls + self._mask.pending + len(self._decoder.getstate()[0])

    def feed(self, data: bytes) -> bytes:
        """What can be shown of `data` and what was held back before it."""
        out = []
        position = 0
        for nuls in _NULS.finditer(data):
            if nuls.start() > position:
                out.append(self._text(data[position : nuls.start()]))
            self._nuls += len(nuls[0])
            position = nuls.end()
        if position < len(data):
            out.append(self._text(data[position:]))
        return b"".join(out)

    def hole(self, length: int) -> None:
        """`length` bytes that read as NUL and need not be fed."""
        self._nuls += length

    def flush(self) -> bytes:
        """The rest, when nothing more will come."""
        rest = self._close_hole() + self._cut(self._mask.flush())
        if self._dropped:
            rest += self._mark_of_cut()
        return self._decode(rest, final=True)

    def _text(self, data: bytes) -> bytes:
        before = self._close_hole()
        return self._decode(before + self._cut(self._mask.feed(data)))

    def _decode(self, data: bytes, *, final: bool = False) -> bytes:
        return self._decoder.decode(data, final).encode()

    def _close_hole(self) -> bytes:
        """What stands for the NULs seen: nothing, a sign each, or a line for a hole."""
        length, self._nuls = self._nuls, 0
        if not length:
            return b""
        before = self._cut(self._mask.flush())
        if length < _HOLE:
            return before + self._cut("␀".encode() * length)
        start = b"" if self._fresh_line else b"\n"
        return before + self._cut(start + f"… {length} bytes left out …\n".encode())

    def _cut(self, data: bytes) -> bytes:
        """`data` without what is beyond the longest line; how much that was is said at the line's end."""
        if data:
            self._fresh_line = data[-1:] == b"\n"
        if self._limit is None or not data:
            return data
        out = []
        for line in data.splitlines(keepends=True):
            ended = line[-1:] in (b"\n", b"\r")
            text = line[:-1] if ended else line
            room = 0 if self._dropped else self._limit - self._length
            kept = text if len(text) <= room else _whole(text[:room])
            self._dropped += len(text) - len(kept)
            self._length += len(kept)
            out.append(kept)
            if ended:
                out += [self._mark_of_cut() if self._dropped else b"", line[-1:]]
                self._length = 0
        return b"".join(out)

    def _mark_of_cut(self) -> bytes:
        dropped, self._dropped = self._dropped, 0
        return f" … {dropped} bytes cut".encode()


def _whole(data: bytes) -> bytes:
    """`data` without an unfinished character at its end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return data
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data if back >= needed else data[:-back]
    return data


async def tail(path: Path, lines: int, view: View, *, ended: bool = False) -> Chunk:
    """The last `lines` lines, at most 8 MiB of them; nothing where there is no log yet."""
    return await asyncio.to_thread(_tail, path, lines, view, ended)


async def read_from(path: Path, offset: int, limit: int, view: View, *, ended: bool = False) -> Chunk:
    """About `limit` bytes from `offset` on, whole characters, no secret cut in two.

    `ended` says that nothing more will be written: then nothing is held back at the end of the file.
    """
    return await asyncio.to_thread(read_chunk, path, offset, limit, view, ended=ended)


async def follow(look: Callable[[], Awaitable[tuple[Path, bool]]], offset: int, view: View) -> AsyncIterator[bytes]:
    """Pieces of text from `offset` on as they are written.

    `look` tells the file, which may be another one that begins in the same way, and whether the job has ended: then
    what is left of the file is all.
    """
    shown: Shown | None = None
    wait = _FIRST_POLL
    while True:
        path, over = await look()
        if shown is None:
            opened = await asyncio.to_thread(_begin, path, offset, view)
            if opened is not None:
                shown, prefix, offset = opened
                if prefix:
                    yield prefix
        moved = False
        while shown is not None:
            text, after = await asyncio.to_thread(_advance, path, offset, _BLOCK, shown)
            if text:
                yield text
            if after == offset:
                break
            moved, offset = True, after
        if over:
            if shown is not None and (rest := shown.flush()):
                yield rest
            return
        wait = _FIRST_POLL if moved else min(1.5 * wait, _LAST_POLL)
        await asyncio.sleep(wait)


def read_chunk(path: Path, offset: int, limit: int, view: View, *, ended: bool = False) -> Chunk:
    """`read_from` for callers that are in a thread already."""
    opened = _begin(path, offset, view)
    if opened is None:
        return Chunk(b"", 0)
    shown, prefix, start = opened
    text, after = _advance(path, start, max(limit, _LEAST + view.masker.longest), shown)
    if ended and after >= path.stat().st_size:
        return Chunk(prefix + text + shown.flush(), after)
    return Chunk(prefix + text, after - shown.pending)


def _begin(path: Path, offset: int, view: View) -> tuple[Shown, bytes, int] | None:
    """The state to read on from `offset`: where a secret lies across it, behind that secret. None without a file."""
    back = view.masker.longest
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            offset = min(max(offset, 0), size)
            start = max(offset - back, 0)
            around = os.pread(file.fileno(), offset - start + back, start)
            before = os.pread(file.fileno(), 1, offset - 1) if offset else b"\n"
    except FileNotFoundError:
        return None
    inside = view.masker.across(around, offset - start)
    shown = Shown(view, at_line_start=before in (b"\n", b"") and not inside)
    return shown, view.masker.mask_bytes if inside else b"", offset + inside


def _advance(path: Path, offset: int, limit: int, shown: Shown) -> tuple[bytes, int]:
    """Read up to `limit` bytes of data from `offset`, passing over a hole of the file without reading it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if offset >= size:
            return b"", offset
        data_at = _next_data(file, offset, size)
        if data_at > offset:
            shown.hole(data_at - offset)
        data = os.pread(file.fileno(), min(limit, size - data_at), data_at) if data_at < size else b""
    return shown.feed(data), data_at + len(data)


def _next_data(file: BinaryIO, offset: int, size: int) -> int:
    """Where data begins at or behind `offset`; `offset` itself on a file system that tells no holes."""
    try:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA)
    except OSError as e:
        return size if e.errno == errno.ENXIO else offset


def _tail(path: Path, lines: int, view: View, ended: bool) -> Chunk:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = _start_of_lines(file, size, lines)
    except FileNotFoundError:
        return Chunk(b"", 0)
    return read_chunk(path, start, size - start, view, ended=ended) if lines > 0 else Chunk(b"", size)


def _start_of_lines(file: BinaryIO, size: int, lines: int) -> int:
    """Where the last `lines` lines begin; a newline at the very end closes a line and begins none."""
    left = lines
    position = size
    least = max(size - _LARGEST_TAIL, 0)
    while position > least:
        start = max(position - _BLOCK, least)
        block = os.pread(file.fileno(), position - start, start)
        found = len(block) - (position == size and block[-1:] == b"\n")
        while (found := block.rfind(b"\n", 0, found)) >= 0:
            left -= 1
            if not left:
                return start + found + 1
        position = start
    return least
