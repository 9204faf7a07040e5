"""Deviations over the values that count, and reward-to-go: shared by the advantages that look beyond a group's rewards.

A NaN stands for no reward: its completion could not be judged. It counts in no mean and no deviation, and its advantage
is 0. `z_scores` and `whitened` compute in float64: shaped rewards are small differences of numbers near 1.
"""

from dataclasses import dataclass
from math import inf

from jaxtyping import Bool, Float
from torch import Tensor

from research.component import Settings, require

ROUNDING = 1e-12
"""A relative spread below this is float64 rounding: the values count as equal."""
VARIANCE_EPS = 1e-8
"""Added to the variance in whitening, under the root, as in verl."""


@dataclass(frozen=True, kw_only=True)
class Deviation(Settings):
    """The standard deviation that an advantage divides by."""

    ddof: int = 1
    """Degrees of freedom taken off the count: 1 is the sample standard deviation, 0 the population one."""
    eps: float = 1e-6
    """ε, in reward units, added to the standard deviation: 1e-6 in verl, 1e-4 in TRL, 1e-8 in oat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ddof in (0, 1), f"{type(self).__name__}: ddof is 0 or 1, got {self.ddof}")
        require(self.eps >= 0, f"{type(self).__name__}: eps is at least 0, got {self.eps}")


def z_scores(
    values: Float[Tensor, "*shape"], counts: Bool[Tensor, "*shape"], dims: tuple[int, ...], *, ddof: int, eps: float
) -> Float[Tensor, "*shape"]:
    """(x − mean) / (std + ε) over the values that count along `dims`; 0 on the others and where all are equal.

    Example:
        >>> from torch import tensor
        >>> values, counts = tensor([[1.0, 3.0, 9.0]]), tensor([[True, True, False]])
        >>> z_scores(values, counts, (1,), ddof=0, eps=0.0)
        tensor([[-1.,  1.,  0.]], dtype=torch.float64)
    """
    x, n = values.double(), counts.sum(dims, keepdim=True)
    mean = x.where(counts, 0.0).sum(dims, keepdim=True) / n
    squares = (x - mean).square().where(counts, 0.0).sum(dims, keepdim=True)
    std = (squares / (n - ddof)).sqrt() + eps
    return ((x - mean) / std).masked_fill(_all_equal(x, counts, dims) | ~counts, 0.0)  # 0/0 is among what is filled


def whitened(
    values: Float[Tensor, "*shape"], counts: Bool[Tensor, "*shape"], *, shift: bool = True
) -> Float[Tensor, "*shape"]:
    """(x − mean) / √(var + 1e-8) over all values that count, var the sample variance; 0 if all are equal.

    Args:
        values: x.
        counts: True where a value counts; the others get 0.
        shift: whether the mean is subtracted; False where it is 0 by construction, so that a 0 stays exactly 0.

    Example:
        >>> from torch import tensor
        >>> whitened(tensor([0.0, 2.0, 9.0]), tensor([True, True, False]))
        tensor([-0.7071,  0.7071,  0.0000])
    """
    x, n = values.double(), counts.sum()
    mean = x.where(counts, 0.0).sum() / n
    variance = (x - mean).square().where(counts, 0.0).sum() / (n - 1)
    scaled = (x - mean if shift else x) / (variance + VARIANCE_EPS).sqrt()
    return scaled.masked_fill(_all_equal(x, counts, tuple(range(x.dim()))) | ~counts, 0.0).float()


def deviation(
    rewards: Float[Tensor, "*shape"], dims: tuple[int, ...], correction: int
) -> Float[Tensor, "*shape_without_dims"]:
    """The standard deviation along `dims`, kept as axes of size 1, of the rewards that are not NaN.

    Example:
        >>> from torch import nan, tensor
        >>> deviation(tensor([[1.0, nan, 3.0], [2.0, nan, nan]]), (1,), 0).flatten()
        tensor([1., 0.])
    """
    known = ~rewards.isnan()
    if known.all():
        return rewards.std(dims, keepdim=True, correction=correction)
    x, n = rewards.where(known, 0.0), known.sum(dims, keepdim=True)
    squares = (x - x.sum(dims, keepdim=True) / n.clamp(min=1)).square().where(known, 0.0).sum(dims, keepdim=True)
    return (squares / (n - correction).clamp(min=1)).sqrt()


def to_go(values: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Σ_{k ≥ t} x_k: the sum of the values still to come at token t, its own included.

    Example:
        >>> from torch import tensor
        >>> to_go(tensor([[1.0, 2.0, 4.0]]))
        tensor([[7., 6., 4.]])
    """
    return values.flip(-1).cumsum(-1).flip(-1)


def _all_equal(x: Float[Tensor, "*shape"], counts: Bool[Tensor, "*shape"], dims: tuple[int, ...]) -> Tensor:
    """True where the values that count are equal along `dims`, but for rounding; also for one value or none."""
    low, high = x.where(counts, inf).amin(dims, keepdim=True), x.where(counts, -inf).amax(dims, keepdim=True)
    return high - low <= ROUNDING * low.abs()
