"""Executors: where attempts run. In this process, in others of this machine, on a Ray cluster, under Slurm."""
