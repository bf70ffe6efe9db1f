"""params.yaml: its sections, and the check that runs before anything else."""

from segpipe.params.check import check_params, describe_faults, holds, load_params, not_allowed, read_yaml, stop_on
from segpipe.params.sections import (
    DataParams,
    EnsembleParams,
    Params,
    PseudoLabelParams,
    SplitParams,
    TrackingParams,
    ViewParams,
    candidate_names,
    fitted_names,
)
from segpipe.params.submission import RleParams, SubmissionParams
from segpipe.params.training import (
    OVERRIDABLE,
    LossParams,
    MemberParams,
    ModelParams,
    OptimizerParams,
    PasteParams,
    SchedulerParams,
    TrainParams,
)
from segpipe.params.values import ALL, MOST_FOLDS, FoldName

__all__ = [
    "ALL",
    "MOST_FOLDS",
    "OVERRIDABLE",
    "DataParams",
    "EnsembleParams",
    "FoldName",
    "LossParams",
    "MemberParams",
    "ModelParams",
    "OptimizerParams",
    "Params",
    "PasteParams",
    "PseudoLabelParams",
    "RleParams",
    "SchedulerParams",
    "SplitParams",
    "SubmissionParams",
    "TrackingParams",
    "TrainParams",
    "ViewParams",
    "candidate_names",
    "check_params",
    "describe_faults",
    "fitted_names",
    "holds",
    "load_params",
    "not_allowed",
    "read_yaml",
    "stop_on",
]
