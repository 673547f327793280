"""Configuration: the model, its documentation, and the TOML loader."""
