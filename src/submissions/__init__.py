"""The answer: plan, rows, writer, linter, drift."""
