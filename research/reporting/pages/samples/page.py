"""Samples as an HTML page that colours the tokens by their quantities, and as a table for the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from statistics import fmean

from rich.table import Table

from research.reporting.numbers import NONE, count, number
from research.reporting.pages.render import provenance, render
from research.reporting.pages.samples.colours import Scale, scale_of
from research.reporting.pages.samples.draw import Sample, SampledGroup, Samples
from research.reporting.pages.samples.quantities import ADVANTAGE, DEVIATION, ENTROPY, Quantity
from research.reporting.pages.samples.token_texts import visible
from research.terminal_text import unmarked
from research.tracking import replace_text

STRIP = 24
"""Height of a strip chart in the unit in which a token is 1 wide."""
LONG = 240
"""Number of tokens above which a completion takes the whole width of the page."""


@dataclass(frozen=True, kw_only=True)
class Coloured:
    """A quantity and its scale of colours on one page."""

    letter: str
    """First letter of the classes of its colours in the style sheet."""
    quantity: Quantity
    scale: Scale
    chosen: bool
    """True if it colours the tokens when the page is opened."""

    @property
    def legend(self) -> tuple[str, str, str]:
        """The numbers at the scale's low end, middle and high end."""
        low, high = self.scale.low, self.scale.high
        return _number(low), _number((low + high) / 2), _number(high)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token as the page shows it."""

    text: str
    breaks: str
    """Its line breaks, which stand behind the box around its text."""
    title: str
    """All its numbers, shown when it is pointed at."""
    classes: str
    """Its classes in the style sheet: a colour for each quantity that it has, or `tool`."""
    height: int
    """Height of its bar in the strip chart, by its entropy; 0 for a tool's token."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A completion as the page shows it."""

    verdict: str
    reason: str
    rewards: tuple[tuple[str, str], ...]
    long: bool
    tokens: tuple[Token, ...]


def write_page(samples: Samples, path: Path, *, name: str, digest: str, seed: int, command: str) -> None:
    """Write the page of samples.

    Args:
        samples: the samples to show.
        path: the file to write.
        name: the run, recipe or model, as the user gave it.
        digest: the digest of the run's config.
        seed: the seed that the samples were drawn with.
        command: the command that makes the page.

    Raises: UserError if the file cannot be written.
    """
    policy = f"after {count(samples.steps, 'step')}" if samples.steps else "at the start"
    facts = {"target": name, "config": digest, "policy": policy, "seed of the page": str(seed), **provenance(command)}
    replace_text(path, page(samples, title=f"Samples of {name}, {policy}", facts=facts))


def page(samples: Samples, *, title: str, facts: Mapping[str, str]) -> str:
    """The page of samples as HTML that loads nothing from elsewhere.

    Args:
        samples: the samples to show.
        title: the page's heading.
        facts: how the page was made: name of a fact to its text.
    """
    scales = coloured(samples)
    return render(
        "samples.html.j2",
        title=title,
        facts={**facts, **samples.components},
        scales=scales,
        strip=STRIP,
        groups=[(group, _headline(group), _cards(group, samples, scales)) for group in samples.groups],
        visible=visible,
        tool=any(not all(sample.own) for group in samples.groups for sample in group.samples),
        entropy_high=_number(scales[samples.quantities.index(ENTROPY)].scale.high),
    )


def coloured(samples: Samples) -> tuple[Coloured, ...]:
    """The quantities of a page with their scales. The one chosen at first tells most about the credit."""
    tokens = [token for group in samples.groups for sample in group.samples for token in sample.values]
    scales = {
        quantity: scale_of((token[k] for token in tokens), diverging=quantity.diverging, reaches=quantity.reaches)
        for k, quantity in enumerate(samples.quantities)
    }
    first = next((quantity for quantity in (DEVIATION, ADVANTAGE) if _varies(samples, quantity)), ENTROPY)
    return tuple(
        Coloured(letter="abcdefghij"[k], quantity=quantity, scale=scale, chosen=quantity == first)
        for k, (quantity, scale) in enumerate(scales.items())
    )


def samples_table(samples: Samples) -> Table:
    """Terminal table of the samples, a row for each group."""
    table = Table(title=f"{count(len(samples.groups), 'group')} after {count(samples.steps, 'step')}")
    for column in ("prompt", "right", "reward", "tokens", "entropy, nats", "advantage", "trains"):
        table.add_column(column, justify="left" if column == "prompt" else "right", overflow="ellipsis")
    at = samples.quantities.index(ENTROPY)
    for group in samples.groups:
        entropies = [token[at] for sample in group.samples for token in sample.values if not isnan(token[at])]
        table.add_row(
            unmarked(_short(group.prompt.question)),
            f"{sum(sample.right is True for sample in group.samples)} of {len(group.samples)}",
            _range([sample.reward for sample in group.samples]),
            _range([float(len(sample.texts)) for sample in group.samples]),
            number(fmean(entropies), percent=False),
            _range([sample.advantage for sample in group.samples]),
            "yes" if group.trains else "no",
        )
    return table


def _varies(samples: Samples, quantity: Quantity) -> bool:
    """True if some token's value of the quantity is not 0, rounding errors aside."""
    if quantity not in samples.quantities:
        return False
    k = samples.quantities.index(quantity)
    return any(abs(token[k]) > 1e-5 for group in samples.groups for sample in group.samples for token in sample.values)


def _cards(group: SampledGroup, samples: Samples, scales: tuple[Coloured, ...]) -> list[Card]:
    return [_card(sample, samples, scales) for sample in group.samples]


def _card(sample: Sample, samples: Samples, scales: tuple[Coloured, ...]) -> Card:
    named = [*zip(samples.columns, sample.rewards, strict=True), ("reward", sample.reward)]
    how = "cut at the limit" if sample.truncated else "ended by itself"
    return Card(
        verdict="not judged" if sample.right is None else "right" if sample.right else "wrong",
        reason="; ".join([how, sample.fault] if sample.fault else [how]),
        rewards=(
            *((name, _number(value, signed=True)) for name, value in named),
            ("mean advantage", _number(sample.advantage, signed=True)),
        ),
        long=len(sample.texts) > LONG,
        tokens=tuple(
            _token(k, text, values, scales) if own else _tool_token(k, text)
            for k, (text, values, own) in enumerate(zip(sample.texts, sample.values, sample.own, strict=True), 1)
        ),
    )


def _token(position: int, text: str, values: tuple[float, ...], scales: tuple[Coloured, ...]) -> Token:
    known = [(scale, value) for scale, value in zip(scales, values, strict=True) if not isnan(value)]
    numbers = [f"{scale.quantity.name} {_number(value, signed=scale.quantity.diverging)}" for scale, value in known]
    entropy = next((scale, value) for scale, value in known if scale.quantity == ENTROPY)
    colours = " ".join(f"{scale.letter}{scale.scale.bin(value)}" for scale, value in known)
    return _shown(position, text, numbers, colours, max(1, round(STRIP * entropy[1] / entropy[0].scale.high)))


def _tool_token(position: int, text: str) -> Token:
    return _shown(position, text, ["written by the tool: no part of the objective"], "tool", 0)


def _shown(position: int, text: str, facts: list[str], classes: str, height: int) -> Token:
    return Token(
        text=text.replace("\n", ""),
        breaks="\n" * text.count("\n"),
        title="\n".join([f"token {position}: {' '.join(text.split()) or repr(text)}", *facts]),
        classes=classes,
        height=height,
    )


def _headline(group: SampledGroup) -> str:
    right = sum(sample.right is True for sample in group.samples)
    text = f"{right} of {len(group.samples)} right"
    if not group.trains:
        return f"{text}; left out, so without an advantage"
    return text if any(sample.advantage for sample in group.samples) else f"{text}; no advantage, so nothing to learn"


def _number(value: float, *, signed: bool = False) -> str:
    return number(value, percent=False, signed=signed and value != 0)


def _range(values: list[float]) -> str:
    known = [value for value in values if not isnan(value)]
    if not known:
        return NONE
    low, high = _number(min(known)), _number(max(known))
    return low if low == high else f"{low} to {high}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
