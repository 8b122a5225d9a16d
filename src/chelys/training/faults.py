"""What is kept of a step that broke: the batch, to be looked at."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from chelys.training.stage import Stage, tensors_of

log = logging.getLogger(__name__)


def save_broken_batch(folder: Path, stage: Stage, step: int, what: str) -> Path | None:
    """Write ``folder/broken-STEP.safetensors``: the batch's tensors, with the ids of its clips as metadata.

    Args:
        folder: Run folder.
        stage: Makes the batch once more.
        step: Whose batch.
        what: What was found, for the metadata.

    Returns:
        Its path, or None where it cannot be written.
    """
    path = folder / f"broken-{step:09d}.safetensors"
    batch: Any = stage.batch(step)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors_of(batch).items()}
    facts = {"stage": stage.name, "step": str(step), "what": what, "clips": json.dumps(stage.clips(step))}
    try:
        save_file(tensors, path, metadata=facts)
    except (OSError, SafetensorError) as error:
        log.warning("%s was not written (%s)", path, error)
        return None
    return path
