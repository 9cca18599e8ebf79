"""Commands that may go on for long: events, logs."""

import sys
from argparse import Namespace

from trainyard.cli.exits import Exit
from trainyard.cli.follow import Follower
from trainyard.cli.session import converse
from trainyard.client import Client


def events(args: Namespace) -> int:
    """The events of a job, those so far or to its end."""
    follower = Follower(args)

    async def work(client: Client) -> int:
        if args.follow:
            return await follower.follow(client, args.job, args.after)
        async for event in client.past_events(args.job, after=args.after):
            follower.tell(event)
        return follower.finish()

    return follower.guarded(lambda: converse(args, work, follower.notice))


def logs(args: Namespace) -> int:
    """A job's log as its bytes are, what there is so far or to its end."""
    follower = Follower(args)

    async def work(client: Client) -> int:
        if args.follow:
            follower.job_id = args.job
        async for chunk in client.logs(args.job, tail=args.tail, follow=args.follow):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return follower.outcome(await client.show(args.job)) if args.follow else Exit.OK

    return follower.guarded(lambda: converse(args, work, follower.notice))
