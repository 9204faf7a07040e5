"""Text for a terminal as it is: no markup is read in it, and no control character reaches the terminal."""

from rich.text import Text

_HIDDEN = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Control characters above ASCII, and those that turn the direction of a line."""
_SHOWN = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(_HIDDEN, 0xFFFD),
}


def printable(text: str) -> str:
    r"""The text with a visible sign for each control character but the tab and the end of a line.

    Example:
        >>> printable("\x1b]0;title\x07")
        '␛]0;title␇'
    """
    return text.translate(_SHOWN)


def unmarked(text: str, style: str = "") -> Text:
    """The text for rich, which prints its square brackets as they are.

    Example:
        >>> unmarked("[link=https://example.org]label[/link]").plain
        '[link=https://example.org]label[/link]'
    """
    return Text(printable(text), style=style)
