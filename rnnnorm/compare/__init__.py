"""`rnnnorm compare`: the same network, the same weights, the same batches, several normalizers.

From the ground up: `experiments` (YAML files by name), `plan` (norms and seeds), `configuration` and `comparison` (from
command line to objects), `runner` (all runs, each by `rnnnorm.engine.trial`).
"""
