"""How beta moves, and the Lightning plans that train with it."""

from ._annealing import AnnealedBeta, resolve_schedule, schedule_to_dict
from ._divergence import TrainingDivergedError
from ._factor_vae import FactorVAETrainingPlan
from ._loading import InMemoryDataSplitter, MinibatchDataset, can_hold_sparse, fits_in_memory, minibatches
from ._plans import BetaVAETrainingPlan
from ._schedules import (
    ConstantSchedule,
    CosineSchedule,
    CyclicalSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
)

__all__ = [
    "AnnealedBeta",
    "BetaVAETrainingPlan",
    "ConstantSchedule",
    "CosineSchedule",
    "CyclicalSchedule",
    "FactorVAETrainingPlan",
    "InMemoryDataSplitter",
    "LinearSchedule",
    "MinibatchDataset",
    "Schedule",
    "SigmoidSchedule",
    "TrainingDivergedError",
    "can_hold_sparse",
    "fits_in_memory",
    "minibatches",
    "resolve_schedule",
    "schedule_to_dict",
]
