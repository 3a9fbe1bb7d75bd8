"""What studies measure of a network, and how measurements are combined."""
