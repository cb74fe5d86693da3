"""Out-of-fold values, objectives, bootstrap, nesting."""
