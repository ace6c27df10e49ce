"""The role process: a role's hooks, its events and its status, from the inside."""
