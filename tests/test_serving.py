"""serve(): the stand-alone server as a function call, for a function of one's own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphpipe_fn import connect
from graphpipe_fn.errors import RemoteError

PROGRAM = """
from typing import Annotated
import numpy as np
from numpy.typing import NDArray
from graphpipe_fn import serve
from graphpipe_fn.adapters.http import Listen
from graphpipe_fn.function import Shape, model

Pairs = Annotated[NDArray[np.float32], Shape("N", 2)]

@model(version="1")
def double(x: Pairs) -> Pairs:
    "Twice the numbers."
    return x * 2

done = serve(double, Listen(port=0), name="double", rest=True)
print("all answered" if done else "given up")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_decorated_function_is_served_until_a_signal(tmp_path: Path, number: int) -> None:
    """Ten lines are a server: it answers with metadata and errors of its own, and ends well on a signal."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            uri = process.stdout.readline().removeprefix("serving at ").strip()
            with connect(uri) as remote:
                pairs = np.array([[1, 2]], "f4")
                np.testing.assert_array_equal(remote.run(pairs)[0], pairs * 2)
                assert (remote.metadata().name, remote.metadata().inputs[0].shape) == ("double", (-1, 2))
                with pytest.raises(RemoteError, match="takes float32"):
                    remote.run(pairs.astype("f8"))
                process.send_signal(number)
                assert process.stdout.read() == "all answered\n"
            assert process.wait(20) == 0
        finally:
            process.kill()


STRAY_SIGNAL = """
import signal, threading, time
from graphpipe_fn import serve
from graphpipe_fn.adapters.http import Listen
from graphpipe_fn.commands.echo import Echo

def stray(server):
    def send():
        time.sleep(0.2)  # until the main thread waits: the case that is hard
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Thread(target=send).start()

assert serve(Echo(), Listen(port=0), started=stray)
"""


def test_a_signal_that_the_kernel_gives_to_another_thread_counts(tmp_path: Path) -> None:
    """SIGTERM ends the server whichever of its threads receives it: a main thread in a lock would not notice."""
    (tmp_path / "program.py").write_text(STRAY_SIGNAL)
    assert subprocess.run([sys.executable, str(tmp_path / "program.py")], timeout=20, check=False).returncode == 0
