"""params.yaml: its sections, and the check that runs before anything else."""

from segpipe.params.check import check_params, load_params
from segpipe.params.sections import (
    OVERRIDABLE,
    DataParams,
    LossParams,
    MemberParams,
    ModelParams,
    OptimizerParams,
    Params,
    PseudoLabelParams,
    SchedulerParams,
    SplitParams,
    TrackingParams,
    TrainParams,
    candidate_names,
)

__all__ = [
    "OVERRIDABLE",
    "DataParams",
    "LossParams",
    "MemberParams",
    "ModelParams",
    "OptimizerParams",
    "Params",
    "PseudoLabelParams",
    "SchedulerParams",
    "SplitParams",
    "TrackingParams",
    "TrainParams",
    "candidate_names",
    "check_params",
    "load_params",
]
