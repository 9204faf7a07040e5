"""Reinforcement learning with verifiable rewards on language models: one flow, small named components.

    prompts → rollouts → rewards → credit ─┊─ objective → update → metrics
                                   (no gradient) ┊ (gradient)

`research/README.md` is the map: every equation, its file, its class and its source.
"""

__version__ = "0.2.0"
