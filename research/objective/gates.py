"""The gate slot: which tokens gain, decided at the policy now. A recipe lists any number; they are multiplied."""

from research.component import Component


class Gate(Component):
    """g [B T] in {0, 1}: what a token's gain is multiplied by; it carries no gradient."""
