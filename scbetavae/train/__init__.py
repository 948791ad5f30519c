"""Schedules of beta, and the Lightning plans, runner and data loading that train with them."""

from ._adversarial import AdversarialTrainingPlan
from ._configs import explicit as explicit  # for scbetavae.model
from ._divergence import TrainingDivergedError as TrainingDivergedError  # documented in scbetavae.model
from ._learning_rate import schedule_arguments as schedule_arguments  # for scbetavae.model
from ._loading import InMemoryDataSplitter
from ._loading import in_memory_loader as in_memory_loader
from ._plans import BetaVAETrainingPlan
from ._runner import BetaVAETrainRunner
from ._runner import epochs_done as epochs_done
from ._schedules import ConstantSchedule, CosineSchedule, CyclicalSchedule, LinearSchedule, Schedule, SigmoidSchedule

__all__ = [
    "AdversarialTrainingPlan",
    "BetaVAETrainRunner",
    "BetaVAETrainingPlan",
    "ConstantSchedule",
    "CosineSchedule",
    "CyclicalSchedule",
    "InMemoryDataSplitter",
    "LinearSchedule",
    "Schedule",
    "SigmoidSchedule",
]
