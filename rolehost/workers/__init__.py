"""Workers: a queue, its slots, and the pipeline begin, run, complete around a renewed lease."""
