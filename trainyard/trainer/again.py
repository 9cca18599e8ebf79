"""All processes of a run begin once more, with what one of them found out, from the newest checkpoint.

A process that runs out of memory can't go back a step alone: its peers wait for it in the middle of one. So it leaves,
its peers with it, and the launcher takes its own place anew: the guard's child stays the same process. What is handed
on lies in the attempt's folder: `again.json`, and once it was taken up `begun-again.json`.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from common.folder import write_whole
from trainyard.trainer.claim import LAUNCHED, Claim
from trainyard.trainer.ranks import Ranks

_ASKED, _BEGUN = "again.json", "begun-again.json"


def ask(claim: Claim, handed: Mapping[str, Any]) -> None:
    """Note what the processes shall know when they begin again; of several that ask the last one counts."""
    write_whole(claim.own / _ASKED, json.dumps(handed).encode())


def asked(claim: Claim | None) -> bool:
    """Whether a process of this run asked for it: then nobody tells an end."""
    return claim is not None and (claim.own / _ASKED).exists()


def handed_on(claim: Claim) -> dict[str, Any]:
    """What the processes before these found out; nothing where there were none."""
    try:
        found: dict[str, Any] = json.loads((claim.own / _BEGUN).read_bytes())
    except FileNotFoundError:
        return {}
    return found


def begin(claim: Claim) -> NoReturn:
    """Take this process's place by a new one of the same program; its processes are gone."""
    ranks = Ranks.of(claim.own).folder
    before = len(list(ranks.parent.glob(f"{ranks.name}.*")))
    ranks.rename(ranks.with_name(f"{ranks.name}.{before}"))
    (claim.own / _ASKED).rename(claim.own / _BEGUN)
    os.environ.pop(LAUNCHED, None)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the very program that runs
