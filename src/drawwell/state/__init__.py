"""A broker's data on disk: the SQLite store and private files."""
