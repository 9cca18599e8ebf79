"""Server-sent events read from bytes that are cut anywhere (the WHATWG grammar, whole)."""

import codecs
import re

from attrs import frozen

_LINE_END = re.compile(r"\r\n|\r|\n")


@frozen
class Message:
    """One message of the stream; `id` is the last id seen so far, as an `EventSource` gives it."""

    event: str
    data: str
    id: str


class Parser:
    """Feed it what arrives; it gives the messages that are complete. What was cut off at the end is dropped."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest: list[str] = []
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Message]:
        text = self._decoder.decode(chunk)
        if not text:
            return []
        if self._after_cr and text[0] == "\n":
            text = text[1:]
        self._after_cr = text.endswith("\r")
        first, *lines = _LINE_END.split(text)
        self._rest.append(first)
        if not lines:
            return []
        complete = ["".join(self._rest), *lines[:-1]]
        self._rest = [lines[-1]]
        return [message for line in complete if (message := self._line(line)) is not None]

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Message | None:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return Message(event, "\n".join(data), self.last_id) if data else None
