"""Following a job: its events as lines, its progress as one line that changes, its outcome as the exit status."""

import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping

from trainyard.cli.exits import OUTCOMES, Exit
from trainyard.cli.output import complain, local_time, plain, write, write_json
from trainyard.cli.progress import progress_line
from trainyard.cli.session import command
from trainyard.client import ENDS, Client, Document

_CLEAR = "\r\x1b[K"


class Follower:
    """Shows the events of one job. On a terminal progress stays on one line; anywhere else each step is a line."""

    def __init__(self, args: Namespace) -> None:
        self.job_id: str | None = None
        self._args = args
        self._live = sys.stdout.isatty() and not args.json
        self._dirty = False

    async def follow(self, client: Client, job_id: str, after: int | None = None) -> int:
        """Show everything to the job's end; its outcome as the exit status."""
        self.job_id = job_id
        job = await client.follow(job_id, self.tell, after=after)
        return self.outcome(job)

    def outcome(self, job: Document) -> int:
        """The exit status that the end of the job stands for."""
        self.finish()
        return OUTCOMES[job["status"]]

    def finish(self) -> int:
        """Leave the last progress on its line; the exit status of a look that went well."""
        if self._dirty:
            write()
            self._dirty = False
        return Exit.OK

    def tell(self, event: Document) -> None:
        """Show one event."""
        if self._args.json:
            write_json(event)
        elif self._live and event["type"] == "job.progress":
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(_CLEAR + progress_line(event["data"])[:width])
            sys.stdout.flush()
            self._dirty = True
        else:
            if event["status"] in ENDS:
                self.finish()
            self._clear()
            for line in event_lines(event):
                write(line)

    def notice(self, text: str) -> None:
        """A sentence of the client's, between the events."""
        self._clear()
        complain(plain(text))

    def guarded(self, work: Callable[[], int]) -> int:
        """`work`, where Ctrl-C leaves the job alone and says so."""
        try:
            return work()
        except KeyboardInterrupt:
            self.finish()
            if self.job_id is not None:
                complain(f"the job {self.job_id} goes on")
                complain(f"follow it again: {command(self._args, 'events --follow ' + self.job_id)}")
                complain(f"cancel it:       {command(self._args, 'cancel ' + self.job_id)}")
            return Exit.INTERRUPTED

    def _clear(self) -> None:
        if self._dirty:
            sys.stdout.write(_CLEAR)
            self._dirty = False


def event_lines(event: Document) -> list[str]:
    """An event for people: a line, and below it the end of the log of a run that failed."""
    data: Mapping[str, object] = event["data"]
    kind = str(event["type"]).removeprefix("job.")
    text = progress_line(data) if kind == "progress" else plain(event["message"]).removeprefix(kind).lstrip(" :")
    if kind == "checkpoint" and isinstance(data.get("uri"), str) and str(data["uri"]) not in text:
        text = f"{text}  {plain(data['uri'])}".strip()
    if kind == "failed" and data.get("reason") is not None and str(data["reason"]) not in text:
        text = f"[{plain(data['reason'])}] {text}"
    tail = data.get("log_tail")
    tail_lines = tail.splitlines() if isinstance(tail, str) else tail if isinstance(tail, list) else []
    head = f"{local_time(event['time'])}  {plain(kind):<10}  {text}".rstrip()
    return [head, *(f"    | {plain(line)}" for line in tail_lines)]
