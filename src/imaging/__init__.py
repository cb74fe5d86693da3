"""Pictures and masks as files: reading, writing, geometry, run lengths, drawing."""
