"""Parts of a training: checkpoints, precision, compilation, recomputation."""
