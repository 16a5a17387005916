"""What the agent tells people and machines: logs, metrics, health, status. Knows no datastore and no kernel."""
