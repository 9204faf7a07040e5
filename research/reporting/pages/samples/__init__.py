"""The page of samples: groups drawn now, every token coloured by what it is worth."""
