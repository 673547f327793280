"""Links: a consumer's connections to doors."""
