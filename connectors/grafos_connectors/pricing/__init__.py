"""What things cost on each cloud: one dated table, and the rules by which one of its prices is believed."""
