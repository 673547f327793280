"""What a broker keeps on disk: the SQLite store and private files."""
