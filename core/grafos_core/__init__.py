"""The words that every room of grafos speaks. This room knows no other."""
