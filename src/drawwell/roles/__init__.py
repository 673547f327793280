"""Composition: sources, broker and consumer as long-running tasks."""
