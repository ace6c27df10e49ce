"""Who runs a role instance: `up`, the bootstrapper, the role process, and the channel between the last two."""
