"""Public datasets that a recipe can call by name: a description of each, and the source that reads them."""
