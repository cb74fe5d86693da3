"""Losses as modules: of pixels, of overlaps, of outlines."""
