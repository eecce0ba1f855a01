"""The message where a part is missing: the client library, or the server that tests need."""

import subprocess
import sys

import pytest

from tests.support.redis_server import OwnRedis


def test_without_the_extra_its_name_is_said() -> None:
    """Not a line of Python's about modules."""
    program = "import sys; sys.modules['redis'] = None; import choreo.adapters.redis"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "pip install 'choreo-kafka[redis]'" in done.stderr


@pytest.mark.parametrize(("required", "ends"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_without_a_server_tests_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, required: str, ends: type[BaseException]
) -> None:
    """They are skipped, and fail where the real thing was required."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CHOREO_REQUIRE_KAFKA", required)
    with pytest.raises(ends, match="apt-get install redis-server"):
        OwnRedis(tmp_path_factory.mktemp("redis"))
