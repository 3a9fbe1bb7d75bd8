"""Generated cases: what a user may do wrong, tried by the thousand and measured by torch and by the eager reference."""
