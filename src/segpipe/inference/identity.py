"""What the answers of models depend on to the last bit, so that those of another run are not taken for them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import segpipe
from segpipe.libraries import TRAINING, library_versions
from segpipe.params import ViewParams
from segpipe.sources import code_deps, code_digest, file_digest


def identity_of(
    models: Iterable[Path], views: ViewParams, *, threads: int, device: torch.device, code: str
) -> dict[str, Any]:
    """JSON values by name; `code` is the module, its `__file__`, whose imports make the answers."""
    root = Path(segpipe.__file__).resolve().parent.parent
    return {
        "models": [file_digest(model / name) for model in models for name in ("model.json", "model.safetensors")],
        # a section may say more than how images are looked at, which changes no answer
        "views": views.model_dump(mode="json", include=set(ViewParams.model_fields)),
        "threads": threads,
        "device": device.type,
        "code": code_digest(code_deps(Path(code).resolve(), root), root),
        "libraries": library_versions(TRAINING),
    }
