"""The page of samples: every token is there once, in its colours, with its own numbers, and nothing of it is run."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from research.policy import character_tokenizer
from research.reporting.pages.samples.colours import BINS, Scale, contrast, scale_of
from research.reporting.pages.samples.draw import Sample, SampledGroup, Samples
from research.reporting.pages.samples.page import page, samples_table
from research.reporting.pages.samples.quantities import (
    ADVANTAGE,
    CREDIT,
    DEVIATION,
    ENTROPY,
    PROBABILITY,
    TOKEN_REWARDS,
    WEIGHT,
    token_values,
)
from research.reporting.pages.samples.token_texts import token_texts
from research.training.inspection import Inspected
from research.types import Completion, Group, Prompt, UpdateBatch

NAN = float("nan")
TOKENS = (
    ("<script>", (0.5, 0.25, 0.25, 1.25)),
    ("a\n", (2.0, 0.75, -0.25, 0.75)),
    ("⟨end⟩", (0.0, 1.0, 0.0, 1.0)),
)


class Read(HTMLParser):
    """Every element's name and attributes, and the text of each."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.open: list[int] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "rect"):
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def tokens(self) -> list[tuple[str, str, str]]:
        """Text, title and class of every token."""
        return [
            (self.texts.get(k, ""), str(attributes["title"]), str(attributes["class"]))
            for k, (tag, attributes) in enumerate(self.elements)
            if tag == "span" and "title" in attributes
        ]


def sample(**changes: Any) -> Sample:
    made: dict[str, Any] = {
        "right": True,
        "fault": None,
        "truncated": False,
        "rewards": (1.0, -0.25),
        "reward": 0.75,
        "advantage": 1.0,
        "texts": tuple(text for text, _ in TOKENS),
        "own": (True,) * len(TOKENS),
        "values": tuple(values for _, values in TOKENS),
    }
    return Sample(**(made | changes))


def samples(*groups: SampledGroup) -> Samples:
    return Samples(
        steps=3,
        columns=("Exact", "Overlong"),
        quantities=(ENTROPY, PROBABILITY, DEVIATION, ADVANTAGE),
        components={"weights": "<b>none</b>"},
        groups=groups,
    )


def group(*of: Sample, trains: bool = True, text: str = "1+1=") -> SampledGroup:
    return SampledGroup(prompt=Prompt(id="p", text=text, answer="2"), trains=trains, samples=of)


def read(made: Samples) -> Read:
    return Read(page(made, title="A <page>", facts={"command": "research samples"}))


def test_every_token_is_a_span_with_its_own_numbers():
    tokens = read(samples(group(sample(), sample(right=False)))).tokens()
    assert len(tokens) == 2 * len(TOKENS)
    text, title, _ = tokens[0]
    assert text == "<script>"
    assert title.split("\n") == [
        "token 1: <script>",
        "entropy 0.5",
        "probability 0.25",
        "advantage − its mean +0.25",
        "advantage +1.25",
    ]
    assert "advantage − its mean −0.25" in tokens[1][1]


def test_every_token_has_a_bar_of_its_entropy():
    found = read(samples(group(sample())))
    bars = found.all("rect")
    assert [bar["class"] for bar in bars] == [colours for _, _, colours in found.tokens()]
    heights = [int(str(bar["height"])) for bar in bars]
    assert heights == [6, 24, 1]  # of 24, for 0.5, 2 and 0 of 2 nats; the last is seen nevertheless


def test_colours_are_those_of_the_values():
    *_, (_, _, colours) = read(samples(group(sample()))).tokens()
    last = BINS - 1
    assert colours.split() == ["a0", f"b{last}", f"c{last // 2}", f"d{round(last * 2.25 / 2.5)}"]


def test_every_colour_of_a_token_is_in_the_style_sheet():
    html = page(samples(group(sample())), title="page", facts={})
    for _, _, colours in Read(html).tokens():
        for name in colours.split():
            assert len(re.findall(rf"main \.{name}\{{background:#[0-9a-f]{{6}};color:#[0-9a-f]{{6}};", html)) == 1


def test_texts_are_escaped_and_nothing_is_loaded_or_run():
    html = page(samples(group(sample(), text="<script>x</script>")), title="A <page>", facts={"run": "<i>"})
    found = Read(html)
    assert found.all("script") == found.all("link") == found.all("img") == []
    assert "<script" not in html
    assert "<page>" not in html
    assert "<b>none" not in html
    assert not re.search(r"https?:|url\(|@import", html)


def test_a_line_break_is_seen_and_breaks_the_line():
    html = page(samples(group(sample(texts=("a↵\n", "b", "c")))), title="page", facts={})
    assert ">a↵</span>\n<span" in html


@pytest.mark.parametrize(
    ("deviations", "chosen"),
    [pytest.param((0.25, -0.25, 0.0), "c", id="tokens"), pytest.param((0, 0, 0), "d", id="no")],
)
def test_the_page_opens_with_what_tells_most(deviations: tuple[float, ...], chosen: str):
    values = tuple((1.0, 0.5, float(deviation), 1.0) for deviation in deviations)
    radios = read(samples(group(sample(values=values)))).all("input")
    assert len(radios) == 4
    assert [radio["id"] for radio in radios if "checked" in radio] == [f"by-{chosen}"]


def test_a_tools_tokens_are_told_apart_and_have_no_numbers():
    values = (TOKENS[0][1], (NAN,) * 4, TOKENS[2][1])
    made = samples(group(sample(values=values, own=(True, False, True))))
    found = read(made)
    assert [colours == "tool" for _, _, colours in found.tokens()] == [False, True, False]
    assert found.tokens()[1][1].splitlines()[1:] == ["written by the tool: no part of the objective"]
    assert [int(str(bar["height"])) for bar in found.all("rect")] == [24, 0, 1]
    html = page(made, title="page", facts={})
    assert "nan" not in html
    assert html.count("written by the tool, not by the policy") == 1
    assert "written by the tool" not in page(samples(group(sample())), title="page", facts={})


def test_a_group_that_is_left_out_has_entropies_and_no_advantage():
    without = tuple((entropy, probability, NAN, NAN) for _, (entropy, probability, *_) in TOKENS)
    made = samples(group(sample()), group(sample(values=without, advantage=NAN), trains=False))
    tokens = read(made).tokens()
    assert [len(colours.split()) for _, _, colours in tokens] == [4, 4, 4, 2, 2, 2]
    html = page(made, title="page", facts={})
    assert html.count("left out, so without an advantage") == 1
    assert "nan" not in html
    assert samples_table(made).row_count == 2


def test_a_completion_that_was_not_judged_is_neither_right_nor_wrong():
    made = sample(right=None, fault="it took too long", rewards=(NAN, 0.0), reward=NAN)
    html = page(samples(group(made)), title="page", facts={})
    assert "not judged" in html
    assert "ended by itself; it took too long" in html
    assert "0 of 1 right" in html
    assert "nan" not in html


def test_a_long_completion_takes_the_width_of_the_page():
    n = 1000
    long = sample(texts=("a",) * n, own=(True,) * n, values=(TOKENS[0][1],) * n)
    found = read(samples(group(long, sample())))
    assert [card["class"] for card in found.all("article")] == ["card long", "card"]
    assert len(found.tokens()) == n + len(TOKENS)


def test_a_diverging_scale_is_white_at_0_and_as_far_to_both_sides():
    scale = scale_of([NAN, -4.0, 1.0], diverging=True)
    assert (scale.low, scale.high) == (-4.0, 4.0)
    assert scale.paints[scale.bin(0.0)].background == "#ffffff"
    assert scale.bin(-4.0) == 0
    assert scale.bin(4.0) == BINS - 1
    assert scale.paints[0].background != scale.paints[-1].background


def test_a_scale_without_values_still_has_two_ends():
    assert scale_of([], diverging=True) == Scale(low=-1.0, high=1.0, diverging=True)
    assert scale_of([0.0], diverging=False, reaches=0.5) == Scale(low=0.0, high=0.5, diverging=False)


@pytest.mark.parametrize("diverging", [True, False])
def test_text_is_readable_on_every_colour(diverging: bool):
    paints = Scale(low=-1.0, high=1.0, diverging=diverging).paints
    assert len(paints) == BINS
    assert min(contrast(paint.background, paint.text) for paint in paints) >= 4.5


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#ffffff", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the grey that just fails


class Pieces:
    """A tokenizer as SentencePiece and byte-level ones are, of six tokens."""

    pieces = ("</s>", "<|user|>", "▁the", "\n\n", "�", "\t")
    eos_token_id = 0
    all_special_ids = (0, 1)

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.pieces[token]

    def decode(self, tokens: list[int], clean_up_tokenization_spaces: bool) -> str:
        return self.pieces[tokens[0]].removeprefix("▁")


def test_tokens_are_seen_one_by_one():
    assert token_texts(Pieces(), [2, 3, 1, 4, 5, 0]) == (" the", "↵\n↵\n", "⟨user⟩", "�", "⇥\t", "⟨end⟩")


def test_characters_are_their_own_tokens():
    tokenizer = character_tokenizer("ab ")
    ids = tokenizer("a b")["input_ids"]
    assert token_texts(tokenizer, [*ids, tokenizer.eos_token_id]) == ("a", " ", "b", "⟨end⟩")


def batch(lengths: list[int], groups: int, **quantities: torch.Tensor) -> UpdateBatch:
    counts = torch.tensor(lengths)
    mask = torch.arange(max(lengths))[None, :] < counts[:, None]
    return UpdateBatch(
        input_ids=torch.zeros(len(lengths), max(lengths) + 1, dtype=torch.long),
        prompt_lengths=torch.ones(len(lengths), dtype=torch.long),
        lengths=counts,
        quantities={"mask": mask, "lengths": counts.reshape(groups, -1), **quantities},
    )


def test_credit_stands_at_the_rows_of_the_groups_that_train():
    made = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="", finish_reason="stop")
    sampled = Group(prompt=Prompt(id="p", text="", answer=""), prompt_ids=(1,), completions=(made, made))
    rewarded = batch([3, 1, 2, 1], 2, entropies=torch.ones(4, 3), old_logprobs=torch.zeros(4, 3))
    advantages, weights = torch.tensor([[1.0, 3.0], [-2.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    credited = batch([2, 1], 1, advantages=advantages, weights=weights)
    values = token_values(
        Inspected(groups=(sampled, sampled), trains=(False, True), rewarded=rewarded, credited=credited),
        token_rewards=False,
    )
    assert TOKEN_REWARDS not in values
    nothing = [[NAN] * 3] * 2
    for quantity, rows in {
        ENTROPY: [[1.0, 1.0, 1.0], [1.0, NAN, NAN], [1.0, 1.0, NAN], [1.0, NAN, NAN]],
        ADVANTAGE: [*nothing, [1.0, 3.0, NAN], [-2.0, NAN, NAN]],
        DEVIATION: [*nothing, [-1.0, 1.0, NAN], [0.0, NAN, NAN]],
        WEIGHT: [*nothing, [0.0, 1.0, NAN], [2.0, NAN, NAN]],
        CREDIT: [*nothing, [0.0, 3.0, NAN], [-4.0, NAN, NAN]],
    }.items():
        torch.testing.assert_close(values[quantity], torch.tensor(rows), equal_nan=True)


def test_nothing_is_credited_where_no_group_trains():
    made = Completion(token_ids=(1,), rollout_logprobs=(0.0,), text="", finish_reason="stop")
    sampled = Group(prompt=Prompt(id="p", text="", answer=""), prompt_ids=(1,), completions=(made,))
    rewarded = batch([1], 1, entropies=torch.ones(1, 1), old_logprobs=torch.zeros(1, 1))
    inspected = Inspected(groups=(sampled,), trains=(False,), rewarded=rewarded, credited=None)
    assert list(token_values(inspected, token_rewards=False)) == [ENTROPY, PROBABILITY]
