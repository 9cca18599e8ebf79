"""The parser of server-sent events, against streams cut anywhere."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from trainyard.sse import Message, Parser

ENDS = st.sampled_from(["\n", "\r", "\r\n"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
NAME = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1)
ID = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """A stream and the messages in it; each with line ends of its own, comments between."""
    text, messages, last_id = draw(st.sampled_from(["", "\ufeff"])), [], ""
    for _ in range(draw(st.integers(0, 4))):
        event, lines = draw(st.none() | NAME), draw(st.lists(TEXT, min_size=1, max_size=3))
        parts = [": a comment"] if draw(st.booleans()) else []
        if draw(st.booleans()):
            last_id = draw(ID)
            parts.append(f"id: {last_id}")
        if event is not None:
            parts.append(f"event: {event}")
        parts += [f"data: {line}" for line in lines]
        end = draw(ENDS)
        text += "".join(part + end for part in [*parts, ""])
        messages.append(Message(event or "message", "\n".join(lines), last_id))
    return text.encode(), messages


def parse(chunks: list[bytes]) -> list[Message]:
    parser = Parser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


@given(streams(), st.lists(st.integers(0, 200), max_size=20))
@example((b"data: a\r\n\r\n", [Message("message", "a", "")]), [8, 9, 10])
def test_a_stream_says_the_same_however_it_is_cut(stream: tuple[bytes, list[Message]], cuts: list[int]) -> None:
    body, messages = stream
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in pairwise(places)]
    assert parse(chunks) == messages
    assert parse([body[i : i + 1] for i in range(len(body))]) == messages


@given(st.lists(st.binary()))
def test_no_bytes_make_the_parser_fail(chunks: list[bytes]) -> None:
    assert parse(chunks) == parse([b"".join(chunks)])


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    assert parse(["data: a\u2028b\x0bc\x85d\n\n".encode()]) == [Message("message", "a\u2028b\x0bc\x85d", "")]


def test_a_message_that_is_cut_off_at_the_end_is_dropped() -> None:
    assert parse([b"data: whole\n\ndata: half\n"]) == [Message("message", "whole", "")]


def test_a_block_without_data_is_no_message_but_its_id_stays() -> None:
    assert parse([b"event: x\nid: 7\n\ndata: a\n\n"]) == [Message("message", "a", "7")]


def test_retry_is_kept_and_nonsense_in_it_is_not() -> None:
    parser = Parser()
    parser.feed(b"retry: 1000\nretry: soon\nretry: \xc2\xb2\n")
    assert parser.retry_ms == 1000
