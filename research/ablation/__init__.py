"""Ablations: factors with named levels, composed into cells that run at the same seeds until all are complete.

A module imports only from its own line and the lines below it:

    run                         a study: every cell at every seed        search/    its search for numbers, before that
    live, unchanged, folder/    the terminal · the proof that the baseline is the base recipe · the results folder
    optuna_trials, mlflow_runs  which worker runs what · what MLflow shows
    plan                        every run, composed and checked
    guarantees, search_places   checks of the configs · the places of a search
    spec                        the study file
    designs, scale, search_spec, nodes, fractions, seeds     its parts
    executors/, stores, loop, interrupts                     processes, databases, the loop over runs, Ctrl-C
"""
