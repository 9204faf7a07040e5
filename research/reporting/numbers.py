"""Numbers as text: percent with one decimal where a metric lies in [0, 1], a true minus sign, "—" for none."""

from math import floor, isnan, log10

from research.statistics import Interval

NONE = "—"


def metric_name(name: str, completions: int | None = None) -> str:
    """A metric's short name.

    Example:
        >>> metric_name("evaluation/avg_at_k", 8), metric_name("evaluation/length_mean")
        ('avg@8', 'length mean')
    """
    last = name.rsplit("/", 1)[-1]
    if completions is not None and last.endswith("_at_k"):
        last = f"{last.removesuffix('_at_k')}_at_{completions}"
    return last.replace("_at_", "@").replace("_", " ")


def number(value: float | None, *, percent: bool, signed: bool = False) -> str:
    """One number: in percent, without the sign %, with one decimal, or with three significant digits.

    A signed number that would round to 0.0 without being 0 keeps its first digit, so that its side of 0 is seen.

    Example:
        >>> number(0.3649, percent=True), number(-0.02, percent=True, signed=True), number(0.01234, percent=False)
        ('36.5', '−2.0', '0.0123')
        >>> number(0.0003, percent=True, signed=True)
        '+0.03'
    """
    if value is None or isnan(value):
        return NONE
    plus = "+" if signed else ""
    if percent:
        points = 100 * value if abs(value) > 1e-12 else 0.0
        text = f"{points:{plus}.1g}" if signed and 0 < abs(points) < 0.05 else f"{points:{plus}.1f}"
    else:
        text = f"{value:{plus},.0f}" if abs(value) >= 1000 else f"{value:{plus}.3g}"
    return text.replace("-", "−")


def interval(value: Interval, *, percent: bool, signed: bool = False) -> str:
    """A mean and its interval; where it is not in percent, with the decimals of two digits of the half width.

    Example:
        >>> interval(Interval(mean=0.5, low=0.25, high=0.75, n=3), percent=True)
        '50.0 [25.0, 75.0]'
        >>> interval(Interval(mean=9.963, low=0.854, high=19.07, n=3), percent=False)
        '10.0 [0.9, 19.1]'
        >>> interval(Interval(mean=0.5, low=None, high=None, n=1), percent=True)
        '50.0 [—]'
    """
    mean = number(value.mean, percent=percent, signed=signed)
    if mean == NONE:
        return NONE
    if value.low is None:
        return f"{mean} [{NONE}]"
    half = (value.width or 0.0) / 2
    if percent or half < 1e-9:
        low, high = (number(end, percent=percent, signed=signed) for end in (value.low, value.high))
        return f"{mean} [{low}, {high}]"
    digits = f"{'+' if signed else ''},.{max(0, 1 - floor(log10(half)))}f"
    mean, low, high = (f"{end:{digits}}".replace("-", "−") for end in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def p_value(p: float | None, least: float | None = None) -> str:
    """A p with three decimals; marked where no effect, however large, could have brought it to 0.05.

    Args:
        p: None if there is none.
        least: the smallest that the p could have been with its number of seeds.

    Example:
        >>> p_value(0.25), p_value(0.0001), p_value(None), p_value(0.75, least=0.75)
        ('0.250', '<0.001', '—', '0.750 (too few seeds)')
    """
    if p is None:
        return NONE
    text = "<0.001" if p < 0.001 else f"{p:.3f}"
    return f"{text} (too few seeds)" if least is not None and least > 0.05 else text


def count(n: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "seed"), count(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(items: list[str]) -> str:
    """Items as a phrase; with semicolons where an item has a comma of its own.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b, c"])
        ('a', 'a, b and c', 'a; and b, c')
    """
    if len(items) < 2:
        return items[0] if items else "none"
    comma, last = (";", "; and") if any(", " in item for item in items) else (",", " and")
    return f"{f'{comma} '.join(items[:-1])}{last} {items[-1]}"
