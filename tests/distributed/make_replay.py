"""Make the corpus of test_replay.py: one history of the driver for each feature, under the release's number.

Run it as ``python tests/distributed/make_replay.py``: it adds what is missing, and leaves what is there, which shows
that histories made before a change of the driver survive it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


async def make(folder: Path, url: str) -> None:
    import flows

    import cerebelum_nb
    from cerebelum_nb import ExecutionClient
    from cerebelum_nb._distributed.cluster import Cluster
    from cerebelum_nb._distributed.executor import DistributedExecutor
    from cerebelum_nb._distributed.worker import Worker
    from cerebelum_nb._store.sqlite import SqliteStore

    log = SqliteStore(folder / "log.db")
    worker = Worker(url, "replay")
    for flow in flows.ALL:
        worker.register_workflow(flow)
    worker.start()
    await worker.ready()
    executor = DistributedExecutor(url, release_after=0.3)
    wanted = {
        "operations": flows.operations,
        "routes": flows.routed,
        "jumps": flows.looped,
        "group": flows.grouped,
        "approval": flows.approved,
        "foreach": flows.collected,
        "signals": flows.signalled,
    }
    cluster = await Cluster.connect(url)
    me = f"{os.getpid()}@{socket.gethostname()}"
    for name, flow in wanted.items():
        path = HERE / "replay" / f"{cerebelum_nb.__version__}-{name}.json"
        if path.exists():
            continue
        running = asyncio.ensure_future(executor.execute(flow, execution_id=name, store=log))
        if name == "approval":
            while not any(type(event).__name__ == "WorkflowHibernated" for event in log.events(name)):
                await asyncio.sleep(0.05)
            await ExecutionClient(url).approve(name, 1, by="ana")
        if name == "signals":
            while not any(type(event).__name__ == "WorkflowHibernated" for event in log.events(name)):
                await asyncio.sleep(0.05)
            for number in (1, 2, 3):
                await ExecutionClient(url).send_signal(name, "go", number)
        await asyncio.wait([running])
        running.exception()
        text = json.dumps((await cluster.handle(name).fetch_history()).to_json_dict(), separators=(",", ":"))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace(me, "caller").replace(f"{HERE.parents[1]}/", "") + "\n")
    await worker.close()


def main() -> None:
    from conftest import Server

    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        shutil.copy(HERE / "flows.py", folder)  # the histories name its place
        sys.path.insert(0, name)
        os.chdir(name)
        os.environ["CEREBELUM_BLOBS"] = str(folder / "blobs")
        server = Server(folder).start()
        try:
            asyncio.run(make(folder, server.url))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
