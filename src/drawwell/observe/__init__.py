"""Pure: series, alarms and the status page, for monitoring."""
