"""How emulated machines boot: a driver starts a machine's processes and ends them."""
