"""Strategies of Lightning, adapted to the training step."""

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy

from research.training.checkpoint import reading


class FullyShardedStrategy(ModelParallelStrategy):
    """FSDP2: weights, gradients and optimizer states are sharded over all ranks.

    Checkpoints are not sharded, so a run can resume under another strategy or on another number of ranks.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Shard over all ranks."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint, which holds tensors and plain values only.

        Raises: UserError if the file is missing or damaged, or holds anything else.
        """
        with reading(checkpoint_path):
            return super().load_checkpoint(checkpoint_path, weights_only=True)
