"""Warm starts of the built-in model: supervised training on worked solutions, cached by a hash of its settings."""
