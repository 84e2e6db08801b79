"""A real model server in a process of its own: llama.cpp (xllamacpp) with the GGUF given, until stdin closes.

It prints its address and then its own log; `python model_server.py GGUF`.
"""

import sys

import xllamacpp  # type: ignore[import-untyped]


def main(gguf: str) -> None:
    """Serve on any free port of the loopback, with /metrics."""
    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx = 1024
    params.n_parallel = 2
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = 1  # more would spin for cores that the tests beside need
    params.warmup = False
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 - the test reads it
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
