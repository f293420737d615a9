"""What operators do to a deployment, with credentials of their own: look at dead letters, redrive and discard them."""
