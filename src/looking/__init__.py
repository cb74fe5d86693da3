"""Looking before training: what a folder holds, what is wrong in it, which folds leak."""
