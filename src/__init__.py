"""Lets `python -m src.folds` find the rooms, as `python src/folds.py` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
