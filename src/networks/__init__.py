"""Parts of networks: padding, outputs of any kind, SMP's builders, weights of encoders."""
