"""Reading a log: its end, a part, all that is to come."""

import asyncio
import os

import pytest

from service.logs import Masker, View, follow, read_from, tail

PLAIN = View()


async def test_tail_gives_the_last_lines_and_where_to_go_on(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(50_000)) + b"unfinished")
    chunk = await tail(path, 3, PLAIN)
    assert chunk.text == b"line 49998\nline 49999\nunfinished"
    assert chunk.offset == path.stat().st_size
    assert (await tail(path, 10**9, PLAIN)).text == path.read_bytes()
    assert (await tail(path, 0, PLAIN)).text == b""


async def test_a_closing_newline_begins_no_line_of_its_own(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"a\nb\nc\n")
    assert (await tail(path, 2, PLAIN)).text == b"b\nc\n"


async def test_a_log_that_is_not_there_yet_is_empty(tmp_path):
    assert (await tail(tmp_path / "none", 5, PLAIN)).offset == 0
    assert (await read_from(tmp_path / "none", 7, 100, PLAIN)).text == b""


async def test_parts_joined_are_the_whole_and_never_cut_a_character(tmp_path):
    path = tmp_path / "train.log"
    text = "größer 🎉 ✓ " * 3000
    path.write_text(text)
    parts, offset = [], 0
    while offset < path.stat().st_size:
        chunk = await read_from(path, offset, 1, PLAIN)
        parts.append(chunk.text.decode())
        offset = chunk.offset
    assert len(parts) > 5 and "".join(parts) == text


async def test_bytes_that_are_no_text_are_replaced(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"a\xff\xfeb\n")
    assert (await read_from(path, 0, 100, PLAIN)).text.decode() == "a\ufffd\ufffdb\n"


async def test_a_hole_is_one_line_and_is_not_read(tmp_path):
    path = tmp_path / "train.log"
    with path.open("wb") as file:
        file.write(b"head" * 1024)
        file.seek(50 << 30)
        file.write(b"tail\n")
    chunk = await asyncio.wait_for(read_from(path, 0, 1 << 20, PLAIN), 5)
    again = await read_from(path, chunk.offset, 1 << 20, PLAIN)
    left_out = (50 << 30) - 4096
    assert (chunk.text + again.text).decode() == "head" * 1024 + f"\n… {left_out} bytes left out …\ntail\n"
    assert (await tail(path, 1, PLAIN)).text.endswith(b"tail\n")


async def test_a_few_nuls_of_a_program_are_shown_as_signs(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"a\0\0b\n")
    assert (await read_from(path, 0, 100, PLAIN)).text.decode() == "a␀␀b\n"


async def test_a_long_line_is_cut_with_a_mark_and_the_next_is_whole(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"x" * 200_000 + b"\nnext\n" + "é".encode() * 200 + b"\nlast")
    view = View(line_bytes=255)
    text = (await read_from(path, 0, 1 << 20, view)).text.decode()
    assert text.split("\n") == [
        "x" * 255 + " … 199745 bytes cut",
        "next",
        "é" * 127 + " … 146 bytes cut",
        "last",
    ]


@pytest.mark.parametrize("size", [1, 3, 7, 4096])
async def test_a_secret_never_shows_wherever_a_reader_begins_or_is_cut(tmp_path, size):
    path = tmp_path / "train.log"
    secret = "hf_abcdefgh1234"
    path.write_text(f"{'.' * 4090}{secret}{'-' * 4090}{secret} end {secret[:9]}")
    view = View(masker=Masker([secret]))
    for start in [0, *range(4085, 4110)]:
        seen, offset = b"", start
        while True:
            chunk = await read_from(path, offset, size, view)
            if chunk.offset == offset:
                break
            seen, offset = seen + chunk.text, chunk.offset
        tail_text = seen.decode().lstrip(".").split(" end")[0]
        assert not any(secret[i : i + 4] in tail_text for i in range(len(secret) - 3))
    assert (await read_from(path, offset, 100, view)).text == b""
    assert (await read_from(path, offset, 100, view, ended=True)).text == secret[:9].encode()


async def test_follow_ends_when_the_job_ended_and_all_was_read(tmp_path):
    path = tmp_path / "train.log"
    over = False
    secret = "swordfish-99"

    async def look():
        return path, over

    async def write():
        nonlocal over
        await asyncio.sleep(0.1)
        for piece in ("one ", "sword", "fish-99 two\n", "ünd".encode()[:1], "ünd".encode()[1:], "\nsword"):
            with path.open("ab") as file:
                file.write(piece if isinstance(piece, bytes) else piece.encode())
            await asyncio.sleep(0.15)
        over = True

    writer = asyncio.create_task(write())
    pieces = [piece async for piece in follow(look, 0, View(masker=Masker([secret])))]
    await writer
    assert b"".join(pieces).decode() == "one •••• two\nünd\nsword"
    assert all(piece.decode() for piece in pieces)


async def test_follow_of_an_ended_job_gives_all_at_once(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(os.urandom(300_000).hex().encode())

    async def look():
        return path, True

    assert b"".join([p async for p in follow(look, 1000, PLAIN)]) == path.read_bytes()[1000:]
