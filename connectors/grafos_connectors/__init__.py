"""One folder per cloud behind one contract: the SDK goes in, our words come out."""
