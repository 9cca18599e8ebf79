"""All that is known of a diffusion job before its model is loaded."""

from attrs import frozen

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.diffusion.curves import Curves
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.scripts import Scripts
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.run import Run


@frozen(kw_only=True)
class Job:
    """What the loop is given."""

    run: Run
    #: With a seed.
    options: Options
    entries: tuple[Entry, ...]
    family: Family
    weights: Weights
    gallery: Gallery
    plan: Plan
    scripts: Scripts
    checkpoints: Checkpoints
    curves: Curves

    @property
    def seed(self) -> int:
        """The engine chose one where none was asked for."""
        return self.options.seed or 0
