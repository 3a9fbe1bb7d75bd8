"""The engine: runs a list of independent trials, whatever they are, by one of several executors.

From the ground up: `records` (files that are never half there), `control` (stopping, checkpoints), `evaluation`,
`progress` (terminal), `threads`, `folder` (lock, signs between processes), `work` (one trial and one attempt at it),
`executors/` (where attempts run), `options` (the command line's), `runner` (all trials).
"""
