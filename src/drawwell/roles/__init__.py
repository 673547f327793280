"""Composition: source, broker and consumer as long-running tasks."""
