"""Out-of-fold values, objectives, gains, nesting."""
