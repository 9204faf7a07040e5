"""What a study leaves in its results folder."""
