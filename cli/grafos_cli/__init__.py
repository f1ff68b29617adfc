"""The grafos command; the one place that wires the rooms together."""
