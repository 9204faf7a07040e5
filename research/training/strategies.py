"""Lightning's strategies, as the training step needs them."""

from lightning.pytorch.strategies import ModelParallelStrategy


class FullyShardedStrategy(ModelParallelStrategy):
    """FSDP2: weights, gradients and optimizer states sharded over all ranks; checkpoints are whole.

    So a checkpoint goes on under any strategy, on any number of ranks.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Shard over every rank there is."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
