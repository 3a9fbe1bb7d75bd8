"""`rnnnorm compare`: the same network, the same weights, the same batches, several normalizers.

From the ground up: `experiments` (YAML files by name), `plan` (which runs), `configuration` and `comparison` (from
command line to objects), `control` (Ctrl-C, time, checkpoints), `evaluation`, `run` (one), `runner` (all).
"""
