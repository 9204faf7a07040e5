"""The papers' tables and the conflicts between sources, read from files under experiments/papers."""
