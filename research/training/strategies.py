"""Strategies of Lightning, adapted to the training step."""

from lightning.pytorch.strategies import ModelParallelStrategy


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
