"""What makes, checks, rehearses and pushes a Kaggle kernel, here."""
