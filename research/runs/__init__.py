"""Runs: a recipe is trained, resumed and evaluated in a folder."""
