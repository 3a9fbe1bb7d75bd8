"""Recurrent networks: layers, directions, states, weights, and what compilers and exporters make of them."""
