"""One role instance, as its bootstrapper knows it: what it is given, its lives, and what became of them."""
