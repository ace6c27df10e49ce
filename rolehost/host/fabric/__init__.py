"""`rolehost up`: the whole service on one machine, its changes and its commands."""
