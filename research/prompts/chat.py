"""Chat markup: whether prompts are read as they are, or as a chat's first turn in the policy's own markup."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from research.component import require
from research.errors import UserError
from research.types import Prompt


class Chat(ABC):
    """How prompts are written for the policy; comes last, after the template and the length asked for."""

    reads_tokenizer: ClassVar[bool]
    """Whether the policy's tokenizer decides what is written."""

    @abstractmethod
    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Any) -> list[Prompt]:
        """The prompts as the policy reads them, in order.

        Args:
            prompts: with the text of a user's message.
            tokenizer: the policy's; None only where it is not read.

        Raises: UserError if the tokenizer cannot write them.
        """


@dataclass(frozen=True, kw_only=True)
class PlainText(Chat):
    """The policy reads the text itself: base models, and templates that have the markup written out."""

    reads_tokenizer = False

    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Any) -> list[Prompt]:
        return list(prompts)


@dataclass(frozen=True, kw_only=True)
class ChatTemplate(Chat):
    """The policy reads the text as a user's message, in the markup that its tokenizer knows.

        text = markup(system, user: text) + opening

    A special token that the tokenizer itself puts before every text, such as a beginning-of-text, is left out of the
    markup, so that the policy reads exactly the tokens of the markup: none twice, none lost. Where the tokenizer's own
    additions cannot be undone, it is refused.
    """

    reads_tokenizer = True

    system: str = ""
    """The system message; empty: none is given, and some models' markup then has one of its own."""
    opening: str = ""
    """What the assistant's turn begins with, such as `<think>`; the policy goes on from there."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings that the model's markup takes, such as `enable_thinking: false`."""

    def __post_init__(self) -> None:
        ours = sorted({"conversation", "tokenize", "add_generation_prompt"} & set(self.options))
        require(not ours, f"ChatTemplate: {', '.join(ours)} is decided here, not in options")

    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Any) -> list[Prompt]:
        if not getattr(tokenizer, "chat_template", None):
            raise UserError("the policy's tokenizer has no chat template: take PlainText in data.chat, or a chat model")
        texts = [self._marked(prompt.text, tokenizer) for prompt in prompts]
        added = _added_in_front(texts[0], tokenizer) if texts else ""
        return [replace(prompt, text=text[len(added) :]) for prompt, text in zip(prompts, texts, strict=True)]

    def _marked(self, text: str, tokenizer: Any) -> str:
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, {"role": "user", "content": text}]
        try:
            written = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self.options
            )
        except Exception as error:  # the markup is a program of the model's authors, and raises what it likes
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the policy's chat template refuses the prompt: {reason}; change data.chat") from error
        return written + self.opening


def _added_in_front(text: str, tokenizer: Any) -> str:
    """What the tokenizer puts in front of this marked text by itself, and the markup has too; mostly nothing.

    Raises: UserError if the text cannot be tokenized to its own tokens.
    """
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    for added in ("", tokenizer.bos_token or ""):
        if text.startswith(added) and tokenizer(text[len(added) :])["input_ids"] == wanted:
            return added
    raise UserError(
        "the policy's tokenizer adds special tokens to every text, which its chat template does not have: "
        "set its add_bos_token and add_eos_token to false, or take PlainText in data.chat"
    )
