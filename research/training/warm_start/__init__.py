"""The built-in warm starts: supervised on worked solutions, made once, cached by what went into them."""
