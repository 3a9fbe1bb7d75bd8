"""Foundations of all packages: checked ranges of options, attributes of modules as text, tracers."""
