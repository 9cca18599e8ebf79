"""Commands that steer a job: pause, resume, change, checkpoint."""

import json
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from trainyard.cli.output import plain
from trainyard.cli.session import answered, command
from trainyard.client import Client, Document


def pause(args: Namespace) -> int:
    """Have a job give its devices back."""
    return _steered(args, lambda client: client.pause(args.job), _state, ("go on with it", "resume"))


def resume(args: Namespace) -> int:
    """Queue a job again, with what is to be different."""
    document = _document(args) | ({"backend": args.backend} if args.backend else {})
    return _steered(args, lambda client: client.resume(args.job, document), _state, ("follow it", "events --follow"))


def change(args: Namespace) -> int:
    """Hand a change over; an event says when it holds."""
    patch = _document(args)
    if not patch:
        args.parser.error("a change needs at least one --set PATH=VALUE")
    said = "the change is stored; job.changed says when it holds"
    return _steered(args, lambda client: client.change(args.job, patch), lambda _: said, ("see it", "events"))


def checkpoint(args: Namespace) -> int:
    """Ask a run for a checkpoint; an event says where it is."""
    said = "a checkpoint is asked for; job.checkpoint says where it is"
    return _steered(args, lambda client: client.checkpoint(args.job), lambda _: said, ("see it", "events"))


def _steered(
    args: Namespace,
    call: Callable[[Client], Awaitable[Document]],
    said: Callable[[Document], str],
    further: tuple[str, str],
) -> int:
    follows = f"{further[0]}: {command(args, f'{further[1]} {args.job}')}"
    return answered(args, call, lambda answer: (f"{args.job}: {said(answer)}", follows))


def _state(job: Document) -> str:
    return plain(job["phase"] if job["phase"] in ("pausing", "paused") else job["status"])


def _document(args: Namespace) -> dict[str, Any]:
    """The merge patch of all `--set`; behind the first dot of a path is one name, as labels and secrets have dots."""
    document: dict[str, Any] = {}
    for path, text in args.set:
        part, dot, name = path.partition(".")
        inside = document.setdefault(part, {}) if dot else document
        if not isinstance(inside, dict) or (name or part) in inside:
            args.parser.error(f"--set {path}: it has a value already")
        inside[name or part] = _value(text)
    return document


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
