"""A cell as one disk image: planned as data, baked from a lock, booted for real."""
