"""The grammar of the command line; standard library alone, so that `--help` answers at once."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trainyard.cli.exits import TABLE

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


def build_parser() -> argparse.ArgumentParser:
    """The parser; `action` of what it gives names the function that does the command."""
    parser = argparse.ArgumentParser(
        prog="trainyard",
        description="Run training jobs: one JSON document is one job.",
        epilog=TABLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version)
    _add_call_options(parser, on_top=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_server(commands)
    _add_documents(commands)
    _add_looks(commands)
    _add_control(commands)
    _add_streams(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from trainyard import __version__

        parser.exit(message=f"trainyard {__version__}\n")


def _add_call_options(parser: argparse.ArgumentParser, *, on_top: bool = False) -> None:
    """The options that may stand before or after the command; after it, one that is absent keeps the earlier value."""
    group = parser.add_argument_group("calling a service")
    absent = None if on_top else argparse.SUPPRESS
    group.add_argument("--url", default=absent, help="where it is (TRAINYARD_URL; http://127.0.0.1:8001)")
    group.add_argument(
        "--token",
        default=absent,
        help="the credential (TRAINYARD_TOKEN, which is better: others on this machine can see arguments)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=False if on_top else argparse.SUPPRESS,
        help="print the API's JSON, a document a line",
    )


def _command(commands: "Commands", name: str, action: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=TABLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=f"trainyard.cli.{action}", parser=parser)
    if name != "server":
        _add_call_options(parser)
    return parser


def _add_server(commands: "Commands") -> None:
    parser = _command(commands, "server", "server.serve", "run the service on this machine")
    parser.add_argument("--host", help="address to listen on (TRAINYARD_HOST; 0.0.0.0)")
    parser.add_argument("--port", type=_port, help="port to listen on; 0 takes a free one (TRAINYARD_PORT; 8001)")
    parser.add_argument(
        "--data-dir", type=_folder, help="database and job folders (TRAINYARD_DATA_DIR; ~/.local/state/trainyard)"
    )
    parser.add_argument("--backend", help="the backend of requests that name none (TRAINYARD_BACKEND; local)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="TRAINYARD_LOG_LEVEL; info")
    parser.add_argument("--log-format", choices=("auto", "json", "console"), help="TRAINYARD_LOG_FORMAT; auto")
    parser.add_argument(
        "--token", default=argparse.SUPPRESS, help="what every caller must send (TRAINYARD_TOKEN, which is better)"
    )


def _add_documents(commands: "Commands") -> None:
    submit = _command(commands, "submit", "documents.submit", "hand over a job")
    validate = _command(
        commands, "validate", "documents.validate", "say what is wrong with a job's document, and store nothing"
    )
    for parser in (submit, validate):
        parser.add_argument("file", metavar="FILE", help="the JSON document; - reads standard input")
        parser.add_argument("--strict", action="store_true", help="unknown fields are errors, not warnings")
    submit.add_argument("--follow", action="store_true", help="show its events and wait for its end")
    validate.add_argument("--deep", action="store_true", help="look at data and model too: tokens, memory, steps")


def _add_looks(commands: "Commands") -> None:
    listing = _command(commands, "list", "looks.list_jobs", "list the jobs, newest first")
    listing.add_argument("--status", action="append", choices=STATUSES, default=[], help="any of these; repeatable")
    listing.add_argument("--backend", help="of this backend")
    listing.add_argument("--label", action="append", metavar="KEY=VALUE", default=[], help="all of these; repeatable")
    listing.add_argument("--limit", type=_count, default=50, help="how many at most (50)")
    _add_job(_command(commands, "show", "looks.show", "show a job"))
    _add_job(
        _command(commands, "cancel", "looks.cancel", "end a job; a run that is under way saves a checkpoint first")
    )
    _command(commands, "backends", "looks.backends", "list where jobs can run")


def _add_control(commands: "Commands") -> None:
    _add_job(_command(commands, "pause", "control.pause", "have a job save a checkpoint and give its devices back"))
    resume = _command(commands, "resume", "control.resume", "go on with a paused, failed or cancelled job")
    _add_job(resume)
    resume.add_argument("--backend", help="another backend than before")
    change = _command(commands, "change", "control.change", "change a job that has not ended")
    _add_job(change)
    for parser in (resume, change):
        parser.add_argument(
            "--set",
            action="append",
            type=_setting,
            metavar="PATH=VALUE",
            default=[],
            help="as tuning_parameters.max_steps=100; a value that is no JSON is text; repeatable",
        )
    _add_job(_command(commands, "checkpoint", "control.checkpoint", "have a running job save a checkpoint now"))


def _add_streams(commands: "Commands") -> None:
    events = _command(commands, "events", "streams.events", "show what happened to a job")
    _add_job(events)
    events.add_argument("--after", type=_number, metavar="ID", help="only events after this event id")
    events.add_argument("--follow", action="store_true", help="go on until the job's end")
    logs = _command(commands, "logs", "streams.logs", "print a job's log")
    _add_job(logs)
    logs.add_argument("--tail", type=_number, metavar="N", help="only the last N lines")
    logs.add_argument("--follow", action="store_true", help="go on until the job's end")


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", type=_job, help="the job's id")


def _job(text: str) -> str:
    if not text.strip("."):
        raise argparse.ArgumentTypeError(f"a job's id has letters or digits, got {text!r}")
    return text


def _setting(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise argparse.ArgumentTypeError(f"must be like tuning_parameters.max_steps=100, got {text!r}")
    return path, value


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be an integer ≥ 0, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if _number(text) == 0:
        raise argparse.ArgumentTypeError(f"must be an integer ≥ 1, got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if _number(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, got {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must be a folder, got ''")
    return Path(text).expanduser().absolute()
