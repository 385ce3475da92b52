"""The contract that every method and baseline fulfils: read `method.py`, which takes two minutes.

A method makes a backbone smaller. It lives in one file, as one subclass of `Method`, and is named in an experiment by
its module path (`methods.unfolding`); nothing registers it. The steps call it in this order:

    train      build -> for each of stages(): begin_stage, losses and after_step per step -> finish -> architecture;
               then the step estimates the statistics of batch norm again, over statistics_points
    evaluate   rebuild -> points -> encode_points (and `at` for what reads the encoder output)
    measure    parameters, stored_bytes, `at`; for what training takes rebuild, as_trained, parameter_groups, losses,
               after_step

The module that `build` returns holds physical weights only. A point is data that the forward pass reads, never a copy
or an alias of weights, so that parameter counts, checkpoints and memory figures are honest. Defaults keep the simple
case simple: `baselines/all_physical.py` is the smallest method.
"""

from methods.contract.loading import load_method, make_method
from methods.contract.method import Method, SystemReference, TrainedSystem, all_points
from methods.contract.points import (
    AtPath,
    HoldsWeights,
    ParameterCount,
    Point,
    Recogniser,
    count_weights,
    number_of_weights,
    path_points,
)
from methods.contract.training import Stage, Step

__all__ = [
    "AtPath",
    "HoldsWeights",
    "Method",
    "ParameterCount",
    "Point",
    "Recogniser",
    "Stage",
    "Step",
    "SystemReference",
    "TrainedSystem",
    "all_points",
    "count_weights",
    "load_method",
    "make_method",
    "number_of_weights",
    "path_points",
]
