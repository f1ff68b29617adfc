"""What a cell consists of on each cloud, and the engine that makes it so."""
