"""The jobs: what turns shipped events into slots, prices, statements and answers. Each can be run again at any time."""
