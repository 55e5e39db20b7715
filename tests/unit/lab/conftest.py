import pytest


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("PYROVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
