"""What runs on a machine: leases, capability tokens and the WASM runtime."""
