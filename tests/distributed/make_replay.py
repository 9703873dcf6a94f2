"""Make the corpus of test_replay.py: one history of the driver for each feature, under the release's number.

Run it as ``python -m tests.distributed.make_replay``: it adds missing files and keeps existing ones, which show that
histories made before a change of the driver survive it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import zlib
from pathlib import Path

HERE = Path(__file__).parent
_PLACE = re.compile(rb'/[^"\\ ]*/(?=(?:tests/distributed|site-packages|replay-\w+)/)')


def without_places(text: str) -> str:
    """Remove the paths of this machine from a history, also from its payloads."""

    def payload(found: re.Match[str]) -> str:
        data = base64.b64decode(found[1])
        try:
            packed = zlib.decompress(data)
        except zlib.error:
            changed = _PLACE.sub(b"", data)
        else:
            changed = zlib.compress(_PLACE.sub(b"", packed), 6)
        return f'"data":"{base64.b64encode(changed).decode()}"'

    return re.sub(r'"data":"([^"]+)"', payload, _PLACE.sub(b"", text.encode()).decode())


async def make(folder: Path, url: str) -> None:
    import flows

    import cerebelum_nb
    from cerebelum_nb import ExecutionClient, step, workflow
    from cerebelum_nb._distributed import driver
    from cerebelum_nb._distributed.cluster import Cluster
    from cerebelum_nb._distributed.executor import DistributedExecutor
    from cerebelum_nb._distributed.worker import Worker
    from cerebelum_nb._store.sqlite import SqliteStore

    @step
    async def held():
        await asyncio.sleep(5)  # lists are told so

    @workflow
    def waiting(wf):
        wf.timeline(held >> flows.approved.given(lambda held: {}))

    driver.LOOK_SECONDS = 1  # how often it asks after its child
    log = SqliteStore(folder / "log.db")
    worker = Worker(url, "replay")
    for flow in (*flows.ALL, waiting):
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
        "caller": flows.child_undone,
        "timeout": flows.out_of_time,
        "waiting": waiting,
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
        if name == "waiting":
            while not (found := log.executions(caller=name)[0]) or found[0].summary.state != "WAITING_FOR_APPROVAL":
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
            await ExecutionClient(url).approve(found[0].execution_id, 1, by="ana")
        await asyncio.wait([running])
        running.exception()
        histories = {path: name}
        for child in log.executions(caller=name)[0]:
            histories[path.with_stem(f"{cerebelum_nb.__version__}-child")] = child.execution_id
        histories = {place: found for place, found in histories.items() if not place.exists()}
        for place, found in histories.items():
            text = json.dumps((await cluster.handle(found).fetch_history()).to_json_dict(), separators=(",", ":"))
            place.write_text(without_places(text.replace(me, "caller")) + "\n")
    await worker.close()


def main() -> None:
    from .conftest import Server

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
