"""Texts of single tokens, with visible signs for white space, control characters and special tokens."""

from collections.abc import Sequence
from typing import Any

WORD_START = "▁"
"""SentencePiece's sign for a space before a word, which is lost when a single token is decoded."""
CONTROL_PICTURES = 0x2400
"""First code point of Unicode's pictures of control characters."""


def token_texts(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token, with signs for what is invisible: ⟨end⟩ for the end token, ↵ before a line break.

    A token that is only a part of a character is shown as `�`.

    Args:
        tokenizer: the policy's.
        ids: of the tokens.
    """
    texts = {token: _text(tokenizer, token) for token in set(ids)}
    return tuple(texts[token] for token in ids)


def _text(tokenizer: Any, token: int) -> str:
    if token == tokenizer.eos_token_id:
        return "⟨end⟩"
    raw = str(tokenizer.convert_ids_to_tokens(token))
    if token in tokenizer.all_special_ids:
        return f"⟨{raw.strip('<|[]>')}⟩"
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    if raw.startswith(WORD_START) and not text.startswith(" "):
        text = f" {text}"
    return visible(text)


def visible(text: str) -> str:
    r"""A text with signs for line breaks, tabs and other control characters.

    Example:
        >>> visible("a\tb"), visible("a\nb")
        ('a⇥\tb', 'a↵\nb')
    """
    return "".join(_sign(character) for character in text)


def _sign(character: str) -> str:
    if character in ("\n", "\t"):
        return {"\n": "↵\n", "\t": "⇥\t"}[character]
    return chr(CONTROL_PICTURES + ord(character)) if character < " " else character
