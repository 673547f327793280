"""What monitoring reads: series, alarms, the status page. Pure."""
