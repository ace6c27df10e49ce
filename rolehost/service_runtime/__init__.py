"""What `rolehost.environment` is made of: topology, events, changes, and the document they are read from."""
