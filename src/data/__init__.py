"""What a network eats: specs, the cache, the check of all pairs, pseudo-labels."""
