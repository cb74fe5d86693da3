"""What everything stands on: errors, knobs and flags, files, memory."""
