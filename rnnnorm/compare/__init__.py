"""`rnnnorm compare`: the same network, the same weights, the same batches, several normalizers.

From the ground up: `experiments` (YAML files by name), `plan` (norms and seeds), `search` (what is tuned) and `halving`
(which trials are next, which is best), `configuration`, `keys`, `tunable` and `comparison` (from command line to
objects), `tuning` and `tuned` (trials, and their files), `runner` (all runs, each by `rnnnorm.engine.trial`).
"""
