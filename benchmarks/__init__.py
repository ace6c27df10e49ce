"""Benchmarks: side by side in one run, as ratios, since machines are shared and noisy. `make bench` runs them."""
