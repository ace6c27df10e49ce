"""Jobs: what they are, how they are submitted, and the one table that knows the truth about them."""
