"""Ablations: named factors with named levels, composed into cells, run until each is complete, paired by seed.

`spec` reads a study file, `designs` makes its cells, `plan` checks them, `study` runs them through one of the
`executors`, `interrupts` hears Ctrl-C, `records` keeps Optuna's and MLflow's view of them, `outputs` writes what the
report reads, `live` shows it.
"""
