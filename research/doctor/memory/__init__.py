"""Does a recipe fit into a device: what it needs, counted without making it, and what would make it fit."""
