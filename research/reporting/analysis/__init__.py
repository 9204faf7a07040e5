"""What a study's tables say: gains and their intervals, by item, at equal cost, along the way."""
