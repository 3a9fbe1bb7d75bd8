"""Data modules and training procedures that single studies, or a few of them, need."""
