"""`research doctor`: what this machine has, what the built-in task gives to fix, and whether a recipe fits a device."""
