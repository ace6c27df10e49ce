"""Who a client is and what it may do: keys, tokens, a trusted proxy's word, and the sign-in page."""
