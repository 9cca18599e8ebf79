"""The exit statuses of the command line; `trainyard --help` prints this table."""

from enum import IntEnum


class Exit(IntEnum):
    """What the caller's shell sees."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    REFUSED = 4
    UNREACHABLE = 5
    SETTING = 64
    START = 70
    INTERRUPTED = 130
    PIPE = 141


OUTCOMES = {"succeeded": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.CANCELLED}

TABLE = """\
exit status:
  0    fine; with --follow: the job succeeded
  1    with --follow: the job failed
  2    the command line is wrong, or a file can't be read
  3    with --follow: the job was cancelled
  4    the service refused
  5    the service can't be reached
  64   server: a setting is wrong
  70   server: it can't start here
  130  Ctrl-C (a followed job goes on)
  141  who read the output has gone
"""
