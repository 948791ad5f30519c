"""How beta moves, and the Lightning plans that train with it."""

from ._annealing import AnnealedBeta, resolve_schedule, schedule_to_dict
from ._components import Components, independent_components, log_normalize, parallel_analysis
from ._divergence import (
    TrainingDivergedError as TrainingDivergedError,  # public as scbetavae.model.TrainingDivergedError
)
from ._factor_vae import FactorVAETrainingPlan
from ._initialization import TrainingCells, initialize_decoder
from ._learning_rate import PEAK, one_cycle, resolve_lr_schedule
from ._loading import InMemoryDataSplitter, MinibatchDataset, can_hold_sparse, fits_in_memory, minibatches
from ._plans import BetaVAETrainingPlan
from ._programs import Programs, find_programs, is_shared_factor
from ._progress import StepProgressBar
from ._runner import BetaVAETrainRunner, default_steps
from ._schedules import (
    ConstantSchedule,
    CosineSchedule,
    CyclicalSchedule,
    LinearSchedule,
    Schedule,
    SigmoidSchedule,
)

__all__ = [
    "PEAK",
    "AnnealedBeta",
    "BetaVAETrainRunner",
    "BetaVAETrainingPlan",
    "Components",
    "ConstantSchedule",
    "CosineSchedule",
    "CyclicalSchedule",
    "FactorVAETrainingPlan",
    "InMemoryDataSplitter",
    "LinearSchedule",
    "MinibatchDataset",
    "Programs",
    "Schedule",
    "SigmoidSchedule",
    "StepProgressBar",
    "TrainingCells",
    "can_hold_sparse",
    "default_steps",
    "find_programs",
    "fits_in_memory",
    "independent_components",
    "initialize_decoder",
    "is_shared_factor",
    "log_normalize",
    "minibatches",
    "one_cycle",
    "parallel_analysis",
    "resolve_lr_schedule",
    "resolve_schedule",
    "schedule_to_dict",
]
