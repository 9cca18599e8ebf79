"""`trainyard server`: settings from flags and environment, then the service until it is told to stop."""

import os
from argparse import Namespace

from trainyard.cli.exits import Exit
from trainyard.cli.names import taken_names
from trainyard.cli.output import complain


def serve(args: Namespace) -> int:
    """Run the service; its exit status."""
    if args.url or args.json:
        args.parser.error("--url and --json are for calls to a running service; this one listens at --host and --port")
    taken = taken_names()
    for sentence in taken:
        complain(sentence)
    if taken:
        return Exit.START
    from common.errors import SettingError, StartError
    from common.settings import read_settings
    from schemas.values import Secret
    from service.main import run

    flags: dict[str, object] = {
        name: getattr(args, name) for name in ("host", "port", "data_dir", "backend", "log_level", "log_format")
    }
    if args.token:
        flags["token"] = Secret(args.token)
    try:
        return run(read_settings(os.environ, flags))
    except SettingError as e:
        complain(str(e))
        return Exit.SETTING
    except StartError as e:
        complain(str(e))
        return Exit.START
