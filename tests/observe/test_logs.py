"""A log record names the step that wrote it."""

from __future__ import annotations

import asyncio
import logging

import pytest
import structlog

from cerebelum_nb import observe, step, workflow


@pytest.fixture
def records():
    """The records of the logger `shop`, by their message."""
    found = {}

    class Keep(logging.Handler):
        def emit(self, record):
            found[record.getMessage()] = (
                record.execution_id,
                record.workflow,
                record.step,
                record.visit,
                record.attempt,
            )

    handler = Keep()
    handler.addFilter(observe.StepFilter())
    logger = logging.getLogger("shop")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


async def test_a_record_says_which_attempt_wrote_it_in_threads_and_in_tasks(log, records):
    shop = logging.getLogger("shop.payments")

    @step(retries=1, retry_delay=0)
    def plain(context):
        shop.warning("plain %d", context.attempt)
        if context.attempt == 1:
            raise ValueError("again")

    @step
    async def task(plain):
        shop.warning("task")
        await asyncio.to_thread(shop.warning, "from a thread")

    @workflow
    def sale(wf):
        wf.timeline(plain >> task)

    await log.run("k1", workflow=sale)
    shop.warning("outside")
    assert records == {
        "plain 1": ("k1", "sale", "plain", 1, 1),
        "plain 2": ("k1", "sale", "plain", 1, 2),
        "task": ("k1", "sale", "task", 1, 1),
        "from a thread": ("k1", "sale", "task", 1, 1),
        "outside": ("", "", "", 0, 0),
    }


async def test_structlog_says_it_too(log):
    with structlog.testing.capture_logs(processors=[observe.add_step]) as events:

        @step
        def plain():
            structlog.get_logger().info("inside", bucket="b")

        @workflow
        def sale(wf):
            wf.timeline(plain)

        await log.run("k1", workflow=sale)
        structlog.get_logger().info("outside")
    inside, outside = events
    assert inside == {
        "event": "inside",
        "bucket": "b",
        "log_level": "info",
        "execution_id": "k1",
        "workflow": "sale",
        "step": "plain",
        "visit": 1,
        "attempt": 1,
    }
    assert outside == {"event": "outside", "log_level": "info"}
