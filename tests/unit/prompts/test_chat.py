"""Chat markup: which tokens a policy reads, and what is said where it cannot be written."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from research.errors import UserError
from research.prompts import ChatTemplate, PlainText
from research.types import Prompt

WORDS = ["<pad>", "<s>", "</s>", "<user>", "<system>", "<bot>", "<think>", "be", "brief", "one", "plus", "two"]
MARKUP = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<bot> {% endif %}{% if thinking %}<think> {% endif %}"
)


def tokenizer_of(template: str | None = MARKUP, *, before: str = "", after: str = "") -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that puts tokens before and after every text by itself."""
    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    added = [word for word in (before, after) if word]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{before} $A {after}".strip(), special_tokens=[(word, WORDS.index(word)) for word in added]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<system>", "<bot>", "<think>"],
    )
    tokenizer.chat_template = template
    return tokenizer


def read(tokenizer: Any, text: str) -> list[str]:
    """The tokens that a sampler reads of a prompt's text."""
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def refused(chat: ChatTemplate, tokenizer: Any) -> str:
    with pytest.raises(UserError) as caught:
        chat(prompts=[ASKED], tokenizer=tokenizer)
    message = str(caught.value)
    assert "\n" not in message
    return message


ASKED = Prompt(id="0", text="one plus two", answer="3", meta={"level": 1})


class TestTokens:
    @pytest.mark.parametrize("before", ["", "<s>"])
    def test_the_beginning_is_read_once_whether_or_not_the_tokenizer_adds_it(self, before: str) -> None:
        tokenizer = tokenizer_of(before=before)
        (prompt,) = ChatTemplate(system="be brief")(prompts=[ASKED], tokenizer=tokenizer)
        expected = ["<s>", "<system>", "be", "brief", "<user>", "one", "plus", "two", "<bot>"]
        assert read(tokenizer, prompt.text) == expected
        assert prompt.text.startswith("<s>") == (before == "")
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one plus two"}]
        theirs = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert tokenizer(prompt.text)["input_ids"] == theirs["input_ids"]  # pyright: ignore

    def test_markup_without_a_beginning_is_refused_by_a_tokenizer_that_adds_one(self) -> None:
        bare = MARKUP.replace("{{ bos_token }}", "")
        (prompt,) = ChatTemplate()(prompts=[ASKED], tokenizer=tokenizer_of(bare))
        assert prompt.text == "<user> one plus two <bot> "
        assert "adds special tokens to every text" in refused(ChatTemplate(), tokenizer_of(bare, before="<s>"))

    def test_a_tokenizer_that_ends_every_text_is_refused(self) -> None:
        assert "set its add_bos_token and add_eos_token to false" in refused(ChatTemplate(), tokenizer_of(after="</s>"))

    def test_system_opening_and_options(self) -> None:
        tokenizer = tokenizer_of()
        (prompt,) = ChatTemplate(opening="<think>", options={"thinking": False})(prompts=[ASKED], tokenizer=tokenizer)
        assert prompt.text == "<s><user> one plus two <bot> <think>"
        (prompt,) = ChatTemplate(options={"thinking": True})(prompts=[ASKED], tokenizer=tokenizer)
        assert prompt.text == "<s><user> one plus two <bot> <think> "
        assert (prompt.id, prompt.answer, dict(prompt.meta)) == ("0", "3", {"level": 1})

    def test_no_prompts(self) -> None:
        assert ChatTemplate()(prompts=[], tokenizer=tokenizer_of()) == []

    def test_plain_text_is_left_alone(self) -> None:
        assert PlainText()(prompts=[ASKED], tokenizer=None) == [ASKED]


class TestRefusals:
    def test_no_chat_template(self) -> None:
        assert refused(ChatTemplate(), tokenizer_of(None)) == (
            "the policy's tokenizer has no chat template: take PlainText in data.chat, or a chat model"
        )

    def test_a_template_that_refuses_the_messages(self) -> None:
        strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}x"
        message = refused(ChatTemplate(system="be brief"), tokenizer_of(strict))
        assert message == "the policy's chat template refuses the prompt: no system message; change data.chat"

    def test_options_that_are_decided_here(self) -> None:
        with pytest.raises(ValueError, match="ChatTemplate: tokenize is set by the component: leave it out of options"):
            ChatTemplate(options={"tokenize": True})
