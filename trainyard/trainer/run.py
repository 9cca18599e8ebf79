"""What a loop is given, and what it gives back."""

from attrs import frozen

from trainyard.trainer.claim import Claim, Fence, Spec
from trainyard.trainer.control import Control
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.secrets import Secrets


@frozen
class Run:
    """What a loop needs to know and to talk with."""

    claim: Claim
    fence: Fence
    report: Reporter
    control: Control
    secrets: Secrets
    spec: Spec


@frozen
class Result:
    """What a loop came to."""

    step: int
    final_uri: str
