"""Trains any objective: the loop, resume, heads, cost, and the run from its first check to the model folder."""

from .config import HEAD_TRAINING as HEAD_TRAINING
from .config import FineTuningConfig as FineTuningConfig
from .config import TrainingConfig as TrainingConfig
from .estimate import CostEstimate as CostEstimate
from .head import NewHead as NewHead
from .head import fit_head as fit_head
from .head import linear_head as linear_head
from .loaders import Loaders as Loaders
from .loop import Scores as Scores
from .loop import TrainState as TrainState
from .loop import fine_tune as fine_tune
from .loop import fit as fit
from .optimizer import make_optimizer as make_optimizer
from .result import Result as Result
from .run import TrainingRun as TrainingRun
from .run import open_run as open_run
