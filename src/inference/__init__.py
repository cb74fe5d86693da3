"""Networks that predict images: the predictor and its views."""
