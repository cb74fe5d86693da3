"""From probabilities to masks and objects: rules, means, watershed."""
