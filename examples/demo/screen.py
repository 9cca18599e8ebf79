"""What the demo shows: bars that move on a terminal, plain lines anywhere else."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

Event = dict[str, Any]
_PLAIN_LINES = 10
_ENDS = {"succeeded": "bold green", "failed": "bold red", "cancelled": "yellow"}


class Screen:
    """Lines and, on a terminal, one live bar below them."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._tenth = -1

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def head(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def say(self, text: str) -> None:
        self._console.print(escape(text))

    @contextlib.contextmanager
    def job(self, job_id: str, what: str) -> Iterator[None]:
        """A job is under way: its events are shown, its steps move the bar."""
        self.head(f"{job_id}: {what}")
        self._tenth = -1
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
        if not self._console.is_terminal:
            yield
            return
        with Progress(*columns, console=self._console) as self._bar:
            self._task = self._bar.add_task("waiting", total=None, numbers="")
            try:
                yield
            finally:
                self._bar = None

    def event(self, event: Event) -> None:
        """An event as it came by SSE."""
        kind, data = event["type"].removeprefix("job."), event["data"]
        if kind == "progress":
            self._progress(data)
            return
        if self._bar is not None and (kind == "phase" or kind in _ENDS):
            self._bar.update(self._task, description=str(data.get("phase", kind)))
        self._line("event", f"{event['sequence']:>3}", kind, event["message"])

    def webhook(self, delivery: Event) -> None:
        """A delivery as the receiver got it."""
        self._line("webhook", f"{delivery['sequence']:>3}", delivery["type"].removeprefix("job."), delivery["message"])

    def compare(self, what: str, before: str, after: str) -> None:
        """Something as it was before a job and as it is after it."""
        self._console.print(f"  [bold]{escape(what)}[/bold]")
        for name, text in (("before", before), ("after", after)):
            self._console.print(f"    [cyan]{name:<7}[/cyan] {escape(text) or '(nothing)'}")

    def _line(self, source: str, number: str, kind: str, text: str) -> None:
        colour = _ENDS.get(kind, "cyan")
        tint = "magenta" if source == "webhook" else "blue"
        self._console.print(
            f"  [dim]{self.seconds:6.1f} s[/dim]  [{tint}]{source:<7}[/{tint}] {number}  "
            f"[{colour}]{kind:<10}[/{colour}]  {escape(text)}"
        )

    def _progress(self, data: dict[str, Any]) -> None:
        step, total = data["step"], data["total_steps"]
        numbers = (
            f"step {step}/{total}  loss {data['loss']:.3f}  {data['tokens_per_second']:,.0f} tokens/s  "
            f"eta {data['eta_seconds']:.0f} s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, total=total, numbers=numbers)
        elif (tenth := _PLAIN_LINES * step // total) != self._tenth:
            self._tenth = tenth
            self._console.print(f"  {self.seconds:6.1f} s  {numbers}")
