"""One command's conversation with the service: where it is, and what each way to fail means for the shell."""

import asyncio
import os
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable

from trainyard.cli.exits import Exit
from trainyard.cli.output import complain, plain, write, write_json
from trainyard.client import DEFAULT_URL, APIError, Client, Document, UnreachableError


def converse(
    args: Namespace, work: Callable[[Client], Awaitable[int]], notice: Callable[[str], None] = complain
) -> int:
    """Run `work` with an open client; the exit status."""
    try:
        client = Client(
            args.url or os.environ.get("TRAINYARD_URL") or DEFAULT_URL,
            args.token or os.environ.get("TRAINYARD_TOKEN") or None,
            notice=notice,
        )
    except ValueError as e:
        complain(f"{e} (--url or TRAINYARD_URL)")
        return Exit.USAGE
    try:
        return asyncio.run(_talk(client, work))
    except APIError as e:
        if args.json and e.problem:
            write_json(e.problem)
        _explain(e)
        return Exit.REFUSED
    except UnreachableError as e:
        complain(plain(str(e)))
        complain("start the service with `trainyard server`, or say where it is with --url or TRAINYARD_URL")
        return Exit.UNREACHABLE


def answered(
    args: Namespace, call: Callable[[Client], Awaitable[Document]], lines: Callable[[Document], Iterable[str]]
) -> int:
    """Write what one call is answered: with `--json` as it is, else as `lines`; the exit status."""

    async def work(client: Client) -> int:
        answer = await call(client)
        if args.json:
            write_json(answer)
        else:
            write("\n".join(lines(answer)))
        return Exit.OK

    return converse(args, work)


def command(args: Namespace, words: str) -> str:
    """A command line to type next, for the same service."""
    return f"trainyard --url {args.url} {words}" if args.url else f"trainyard {words}"


async def _talk(client: Client, work: Callable[[Client], Awaitable[int]]) -> int:
    async with client:
        return await work(client)


def _explain(error: APIError) -> None:
    for field in error.errors:
        complain(f"{plain(field['path'])}: {plain(field['message'])}")
    if not error.errors:
        complain(f"{plain(error.detail)} ({error.status} {plain(error.code)})")
    if error.status == 401:
        complain("give the service's token with --token or TRAINYARD_TOKEN")
