"""Every engine is held to the contracts of the stores."""
