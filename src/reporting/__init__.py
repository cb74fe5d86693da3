"""The page of a run: sections, charts, cases."""
