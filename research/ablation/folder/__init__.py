"""Files of a study's results folder."""
