"""The command line `trainyard`: a client of the HTTP API, and the way to start the service."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from trainyard.cli.exits import Exit
from trainyard.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What a subcommand needs is imported only for it."""
    try:
        try:
            args = build_parser().parse_args(argv)
            module, _, function = args.action.rpartition(".")
            run: Callable[..., int] = getattr(import_module(module), function)
            return int(run(args))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`| head`); what is still buffered must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
