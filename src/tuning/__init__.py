"""What is decided after training: steps, sweeps, views, soup, weights."""
