"""32 processes of a GPU each on a Ray cluster; Ray sets what torchrun would. Needs `pip install 'ray[train]'`."""

from __future__ import annotations

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from train import main  # the run itself: opens its mesh, goes on from its newest checkpoint

if __name__ == "__main__":
    TorchTrainer(
        lambda: main("cuda"),
        scaling_config=ScalingConfig(num_workers=32, use_gpu=True),
        run_config=RunConfig(name="vernacular", failure_config=FailureConfig(max_failures=3)),
    ).fit()
