"""What runs inside the kernel on Kaggle: standard library and core.errors only."""
