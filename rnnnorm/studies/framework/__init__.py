"""What all studies share: settings, trials, measurements, estimates, verdicts, figures, the page."""
