"""Ratios, surrogates, gates, penalties and bonuses again, slowly: loops over float64 numbers (see `reference.py`)."""

SLOW: dict = {}
"""One function a component, by the component's name."""
SETTINGS: dict[str, list[dict]] = {}
"""The settings to compare at, by the component's name."""
