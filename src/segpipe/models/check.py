"""What of section `model` cannot be, before data are read: names, combinations, weights."""

from segpipe.models.build import architecture
from segpipe.models.encoder_weights import weights_problems
from segpipe.models.names import name_problems
from segpipe.models.sizes import input_size, skeleton
from segpipe.params import ModelParams


def model_problems(model: ModelParams) -> list[str]:
    """Unknown names with the nearest ones; else what the libraries refuse, with their reason; a line each.

    Builds the network without numbers, and asks the hub for weights that are not in its cache; downloads nothing.
    """
    if problems := name_problems(model):
        return problems
    description = architecture(model, num_classes=2)  # any number: no layer before the last depends on it
    try:
        input_size(description)
        return weights_problems(model, skeleton(description))
    except ValueError as error:
        return [" ".join(str(error).split())]
