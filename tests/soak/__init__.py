"""`make soak`: the whole service under a hail of kills, judged by its history. No part of `make test`."""
