"""The memory that a recipe needs, counted without loading its model, and the overrides with which it fits a device."""
