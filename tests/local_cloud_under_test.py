"""The program that the tests of `up` run: a local cloud with two small functions; `PROGRAM STATE_DIR [PORT]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from local_agents import APP, specs

from classy.local.functions import AppSpec
from classy.local.local_cloud import CloudSettings, LocalCloud
from classy.local.ports import free_port
from classy.local.up import run
from graphpipe_fn.errors import GraphPipeError


def main() -> int:
    """Run until told to stop."""
    state_dir, port = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else free_port()
    try:
        cloud = LocalCloud(
            CloudSettings(state_dir=state_dir, agent_port=port, storage_port=free_port(), uploads_to="receiver")
        )
    except GraphPipeError as exc:
        print(exc.message)
        return 1
    environment = cloud.storage.environment
    receiver = specs("receiver", config={"NOTES": str(state_dir / "notes"), **environment})
    return run(cloud, AppSpec(name=APP), [*specs("echo", config=environment), *receiver])


if __name__ == "__main__":
    sys.exit(main())
