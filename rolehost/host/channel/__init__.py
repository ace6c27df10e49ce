"""The runtime channel between a bootstrapper and its role: goal states down, status leases up."""
