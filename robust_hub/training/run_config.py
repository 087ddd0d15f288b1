"""What a run is asked for, whichever recipe it is."""

from typing import Protocol, runtime_checkable

from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.training.config import TrainingConfig


@runtime_checkable
class RunConfig(Protocol):
    """What every recipe that trains asks its user."""

    @property
    def source(self) -> Source:
        """The images."""
        ...

    @property
    def output(self) -> Output:
        """Where the run writes."""
        ...

    @property
    def threat(self) -> str:
        """linf:EPS or l2:EPS, in pixel units."""
        ...

    @property
    def training(self) -> TrainingConfig:
        """How weights are learnt."""
        ...
