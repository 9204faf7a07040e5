"""The search for numbers before a study's cells run: `run` drives it, `trials` makes it at one place."""
