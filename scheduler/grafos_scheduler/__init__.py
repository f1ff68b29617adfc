"""Who runs where, for how long, at whose cost."""
