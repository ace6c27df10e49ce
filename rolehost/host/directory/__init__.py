"""The instance directory: leased rows, heartbeats, role events and run logs in the stores."""
