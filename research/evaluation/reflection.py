"""Signs that a completion looks back at its own work."""

import re

REFLECTION = re.compile(
    r"\bwait\b|\bhmm+\b|\baha\b|\brethink|\bre-?think|\brecheck|\bre-?check|\breconsider|\bre-?evaluat|\bre-?examine|\bre-?examining|"
    r"\bon second thought|\blet me (?:try again|reconsider|start over)|\bi made a mistake|等等|重新(?:考虑|思考|检查)",
    re.IGNORECASE,
)
"""Words of doubt and of beginning again."""
SELF_CHECK = re.compile(
    r"\bdouble-?\s?check|\bcross-?\s?check|\blet me (?:check|verify)|\blet['’]s (?:check|verify)|\bto verify\b|"
    r"\bverif(?:y|ying) (?:this|that|the|my|our)\b|\bcheck (?:this|that|my|our)\b|"
    r"\bplug(?:ging)? (?:it|this|that) back|\(\d+[+-]\d+=\d+\)|检验|验算|验证",
    re.IGNORECASE,
)
"""Words that announce a check; `(55-8=47)`, an equation in brackets, is the built-in task's own check of a step."""


def reflects(text: str) -> bool:
    """True if the text doubts or begins again.

    It looks for words, so it cannot tell a useful doubt from a habit. Dr. GRPO found such words in base models before
    any reinforcement learning: compare with the policy before training.

    Source: Liu et al. 2025, Dr. GRPO, who count by keywords and by a model's judgement (arXiv:2503.20783); the
    list here is this project's.

    Example:
        >>> reflects("So 12. Wait, that is wrong."), reflects("So 12.")
        (True, False)
    """
    return REFLECTION.search(text) is not None


def checks_itself(text: str) -> bool:
    """True if the text announces a check of its own result.

    Example:
        >>> checks_itself("Let me verify this: 3 + 4 = 7."), checks_itself("3 + 4 = 7.")
        (True, False)
    """
    return SELF_CHECK.search(text) is not None
