"""The drawn competition of demo_data.py."""
