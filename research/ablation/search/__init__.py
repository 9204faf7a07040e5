"""A numeric search inside a design: what a study file declares, where it is made, its trials, and the values found."""
