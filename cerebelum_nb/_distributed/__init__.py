"""The same workflow across machines: executions on a Temporal cluster, mirrored into the local log.

One generic Temporal workflow (driver.py) is a second shell around :mod:`cerebelum_nb._core.drive`; steps run in
activities of workers (worker.py, host.py), with the attempts and operations of :mod:`cerebelum_nb._engine`. The events
are in Temporal's history (wire.py), are read from there without a worker (cluster.py), and are copied into a local log
(mirror.py). Nothing outside this package imports ``temporalio``.
"""

from importlib.util import find_spec

if find_spec("temporalio") is None:
    raise ImportError(
        "a cluster needs the Temporal SDK, which is not installed here: pip install 'cerebelum_nb[temporal]'",
        name="temporalio",
    )
