"""One call from a client to an upstream and back: its bytes untouched, its facts written down."""
