"""A whole fabric in one process, under a seed: for tests of what runs on it. ``SimFabric`` is the door."""
