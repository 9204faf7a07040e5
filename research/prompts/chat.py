"""Chat markup: prompts read as they are, or as the first turn of a chat in the policy's own markup."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from research.component import require
from research.errors import UserError
from research.prompts.tokenizer import Tokenizer
from research.types import Prompt


class Chat(ABC):
    """Writes prompts for the policy, after the template and the requested length are in place."""

    reads_tokenizer: ClassVar[bool]
    """True if the markup comes from the policy's tokenizer."""

    @abstractmethod
    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Tokenizer | None) -> list[Prompt]:
        """The prompts as the policy reads them, in order.

        Args:
            prompts: with the text of a user's message.
            tokenizer: the policy's; None only if `reads_tokenizer` is False.

        Raises: UserError if the tokenizer cannot write them.
        """


@dataclass(frozen=True, kw_only=True)
class PlainText(Chat):
    """The text itself, for base models and for templates that have the markup written out."""

    reads_tokenizer = False

    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Tokenizer | None) -> list[Prompt]:
        return list(prompts)


@dataclass(frozen=True, kw_only=True)
class ChatTemplate(Chat):
    """The text as a user's message, in the chat markup of the policy's tokenizer.

        text = markup(system, user: text) + opening

    The policy reads exactly the tokens of the markup. A beginning-of-text token that the tokenizer puts before every
    text is therefore left out of the markup; a tokenizer with additions that cannot be undone so is refused.
    """

    reads_tokenizer = True

    system: str = ""
    """The system message; empty gives none, and some models' markup then has one of its own."""
    opening: str = ""
    """The beginning of the assistant's turn, such as `<think>`; the policy continues it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of the model's own markup, such as `enable_thinking: false`."""

    def __post_init__(self) -> None:
        ours = sorted({"conversation", "tokenize", "add_generation_prompt"} & set(self.options))
        require(not ours, f"ChatTemplate: {', '.join(ours)} is set by the component: leave it out of options")

    def __call__(self, *, prompts: Sequence[Prompt], tokenizer: Tokenizer | None) -> list[Prompt]:
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            raise UserError("the policy's tokenizer has no chat template: take PlainText in data.chat, or a chat model")
        texts = [self._marked(prompt.text, tokenizer) for prompt in prompts]
        added = _added_in_front(texts[0], tokenizer) if texts else ""
        return [replace(prompt, text=text[len(added) :]) for prompt, text in zip(prompts, texts, strict=True)]

    def _marked(self, text: str, tokenizer: Tokenizer) -> str:
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, {"role": "user", "content": text}]
        try:
            written = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self.options
            )
        except Exception as error:  # the markup is a program of the model's authors, and raises what it likes
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the policy's chat template refuses the prompt: {reason}; change data.chat") from error
        return f"{written}{self.opening}"


def _added_in_front(text: str, tokenizer: Tokenizer) -> str:
    """The token that the markup begins with and the tokenizer adds once more by itself; mostly the empty text.

    Raises: UserError if the tokenizer adds anything else.
    """
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    for added in ("", getattr(tokenizer, "bos_token", None) or ""):
        if text.startswith(added) and tokenizer(text[len(added) :])["input_ids"] == wanted:
            return added
    raise UserError(
        "the policy's tokenizer adds special tokens to every text, which its chat template does not have: "
        "set its add_bos_token and add_eos_token to false, or take PlainText in data.chat"
    )
