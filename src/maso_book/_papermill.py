"""Runs one notebook in a process of its own: `python -P _papermill.py REQUEST`, started by `maso_book.runner`.

The file stands alone and imports nothing of this package, so that it starts at once.
"""

import json
import os
import shutil
import sys
import threading
from typing import Any


def execute(request: dict[str, Any]) -> int:
    """Run `request["source"]` into `request["copy"]`; its kernel listens on sockets in `request["folder"]`."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    try:
        papermill.execute_notebook(
            request["source"],
            request["copy"],
            parameters=request["parameters"],
            progress_bar=sys.stderr.isatty(),
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{request['folder']}/k"}}),
        )
    except papermill.PapermillExecutionError:
        return 1  # its traceback is in the copy
    except DeadKernelError as error:
        print(f"{request['source']}: {error}", file=sys.stderr)
        return 1
    return 0


def end_with_parent(folder: str) -> None:
    """Wait for the end of who started this process, however it ends, and end then; the kernel follows by itself."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    threading.Thread(target=end_with_parent, args=[asked["folder"]], daemon=True).start()
    sys.exit(execute(asked))
