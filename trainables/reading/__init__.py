"""Reading what people write: YAML with line numbers, values of settings, and the mistakes in them."""
