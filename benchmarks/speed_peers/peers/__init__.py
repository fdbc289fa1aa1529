"""One module for each peer, imported in the peer's own environment.

Its top imports what the peer needs, and `load` gives what is timed. Each scores a window as a user of it writes that.
"""
