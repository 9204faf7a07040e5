"""The sections of a report: its sentences and its tables."""
