"""Commands that hand a document in: submit, validate."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from trainyard.cli.examined import findings
from trainyard.cli.exits import Exit
from trainyard.cli.follow import Follower
from trainyard.cli.output import complain, warn, write, write_json
from trainyard.cli.session import command, converse
from trainyard.client import ENDS, Client


def submit(args: Namespace) -> int:
    """Hand a document over, as its bytes are."""
    body = _read(args.file)
    follower = Follower(args)

    async def work(client: Client) -> int:
        answer = await client.call("POST", "/train", params=_strict(args), document=body)
        job = answer.document
        warn(job["warnings"])
        if args.json:
            write_json(job)
        else:
            write(f"{job['job_id']}: {'accepted' if answer.status == 201 else 'known already'}, {job['status']}")
        if args.follow:
            return await follower.follow(client, job["job_id"])
        if not args.json and job["status"] not in ENDS:
            write(f"follow it: {command(args, 'events --follow ' + job['job_id'])}")
        return Exit.OK

    return Exit.USAGE if body is None else follower.guarded(lambda: converse(args, work, follower.notice))


def validate(args: Namespace) -> int:
    """What the service would say to the document."""
    body = _read(args.file)

    async def work(client: Client) -> int:
        assert body is not None
        answer = await client.validate(body, strict=args.strict, deep=args.deep)
        warn(answer["warnings"])
        if args.json:
            write_json(answer)
        else:
            write("the document is valid")
            if args.deep:
                write("\n".join(findings(answer)))
        return Exit.OK

    return Exit.USAGE if body is None else converse(args, work)


def _strict(args: Namespace) -> Sequence[tuple[str, str]]:
    return [("strict", "true")] if args.strict else []


def _read(file: str) -> bytes | None:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as e:
        complain(f"cannot read {file}: {(e.strerror or str(e)).lower()}")
        return None
