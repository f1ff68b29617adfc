"""Small clouds on loopback whose machines boot, for the demo and the tests."""
