"""`research doctor`: this machine, the built-in task at its warm start, and the memory that a recipe needs."""
