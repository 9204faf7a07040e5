"""Public datasets that a recipe can call by name: what each is, and how its rows are read."""
