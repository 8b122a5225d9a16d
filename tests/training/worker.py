"""What each process under ``torchrun`` does in the tests: train stages, one after another.

Arguments: a JSON file with a list of ``[stage, configuration file, overrides]``.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch

from chelys.training.distributed import end_processes
from chelys.training.run_stage import run_stage

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)
    for stage, config, overrides in json.loads(Path(sys.argv[1]).read_text()):
        run_stage(stage, Path(config), overrides)
    end_processes()
