r"""Prompt templates of papers: words around a question, `{prompt}`, that make the answer easy to find.

    plain      the question alone
    boxed      the last answer in \boxed{}: Shao et al. 2024, DeepSeekMath, the model card's words (arXiv:2402.03300)
    boxed_zh   the same for Chinese questions
    dapo       a last line `Answer: …`: Yu et al. 2025, DAPO, the words of its data (arXiv:2503.14476)
    r1         <think> and <answer> tags: DeepSeek-AI 2025, R1-Zero (arXiv:2501.12948), as Liu et al. 2025 use it for
               base models, with the first tag opened (arXiv:2503.20783)
    qwen_math  Qwen2.5-Math's chat markup, written out: Liu et al. 2025 (arXiv:2503.20783)
    countdown  <think> and <answer> tags around an equation: Pan et al. 2025, TinyZero (github.com/Jiayi-Pan/TinyZero)

A chat model's own markup comes from its tokenizer (`ChatTemplate`), not from here.
"""

from collections.abc import Mapping

_BOXED = r"Please reason step by step, and put your final answer within \boxed{}."

TEMPLATES: Mapping[str, str] = {
    "plain": "{prompt}",
    "boxed": "{prompt}\n" + _BOXED,
    "boxed_zh": "{prompt}\n" + r"请通过逐步推理来解答问题，并把最终答案放置于\boxed{}中。",
    "dapo": (
        "Solve the following math problem step by step. The last line of your response should be of the form "
        "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{prompt}\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    ),
    "r1": (
        "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. "
        "The Assistant first thinks about the reasoning process in the mind and then provides the User with the "
        "answer. The reasoning process is enclosed within <think> </think> and answer is enclosed within <answer> "
        "</answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.\n"
        "User: {prompt}\nAssistant: <think>"
    ),
    "qwen_math": (
        f"<|im_start|>system\n{_BOXED}<|im_end|>\n<|im_start|>user\n{{prompt}}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "countdown": (
        "Using the numbers {numbers}, create an equation that equals {goal}. You can use basic arithmetic operations "
        "(+, -, *, /) and each number can only be used once. Show your work in <think> </think> tags. And return the "
        "final answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>."
    ),
}
"""Template by name."""


def template_text(template: str, placeholders: tuple[str, ...] = ("prompt",)) -> str:
    """The template of that name, or the text itself if it has a place for the question.

    Raises: ValueError if it is neither.
    """
    if template in TEMPLATES:
        return TEMPLATES[template]
    if not any(f"{{{name}}}" in template for name in placeholders):
        wanted = " or ".join(f"{{{name}}}" for name in placeholders)
        raise ValueError(f"template is one of {', '.join(TEMPLATES)}, or a text with {wanted}, got {template!r}")
    return template
