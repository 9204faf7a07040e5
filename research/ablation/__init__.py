"""Ablations: factors with named levels, composed into cells that run at the same seeds until all are complete.

A module imports only from its own line and the lines below it:

    run, search/                     every cell at every seed · a search for numbers before that
    live, unchanged, folder/         the terminal · the null run · the results folder
    optuna_trials, mlflow_runs       the workers' claims on runs · the runs as MLflow shows them
    plan                             every run, composed and checked
    guarantees, search_places        checks of the configs · the places of a search
    spec                             the study file
    designs, fractions, scale        cells and comparisons · aliases · the study at another scale
    search_spec, nodes, seeds        a search as declared · paths in a config · seeds
    executors/, loop, interrupts     processes · the loop over runs · Ctrl-C
    stores                           the databases
"""
