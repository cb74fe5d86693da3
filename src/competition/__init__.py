"""What a competition ships: tables, listings, mask sources, splits."""
