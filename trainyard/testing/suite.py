"""All promises in one class."""

from trainyard.testing.commands import TakesCommands
from trainyard.testing.faults import EndsOrphans, NoticesLostRuns, WaitsForTheCluster
from trainyard.testing.requests import BuildsSpecs, ValidatesRequests
from trainyard.testing.restarts import ShutsOutTheLate, SubmitsOnce, SurvivesRestarts
from trainyard.testing.runs import TellsExitCodes, TellsRuns
from trainyard.testing.secrets import KeepsSecrets
from trainyard.testing.stops import Cancels, KeepsDeadlines


class BackendConformance(
    ValidatesRequests,
    BuildsSpecs,
    TellsRuns,
    TellsExitCodes,
    Cancels,
    KeepsDeadlines,
    TakesCommands,
    SurvivesRestarts,
    SubmitsOnce,
    ShutsOutTheLate,
    NoticesLostRuns,
    EndsOrphans,
    WaitsForTheCluster,
    KeepsSecrets,
):
    """What "works" means for a backend: inherit it, set `name`, override what your backend needs (docs/BACKENDS.md)."""
