"""Measures of objects and shapes, as plain functions of label images."""
