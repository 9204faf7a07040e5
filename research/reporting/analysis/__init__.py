"""Numbers of a report, worked out from a study's tables: gains and intervals, by item, at equal cost, along the way."""
