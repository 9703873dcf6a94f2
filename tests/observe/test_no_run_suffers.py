"""An observer never changes how a run ends."""

from __future__ import annotations

import time

import pytest
from observed import deploy
from opentelemetry.sdk.trace import SpanProcessor

from cerebelum_nb import observe
from cerebelum_nb._observe.tally import Tally


class Broken(SpanProcessor):
    def on_end(self, span):
        raise RuntimeError("the exporter is broken")


class Slow(SpanProcessor):
    def on_end(self, span):
        time.sleep(0.02)


@pytest.mark.parametrize(("processor", "warnings"), [(Broken(), 1), (Slow(), 0)])
async def test_a_trace_that_cannot_be_sent_or_is_slow(log, caplog, processor, warnings):
    with observe.Traces(processor=processor):
        result = await deploy.execute({}, store=log.store)
    assert result.status == "COMPLETED"
    assert caplog.text.count("an observer raised RuntimeError") == warnings


async def test_metrics_that_raise(log, caplog, monkeypatch):
    monkeypatch.setattr(Tally, "add", lambda *_: 1 / 0)
    found = observe.ProcessMetrics()
    result = await deploy.execute({}, store=log.store)
    found.close()
    assert result.status == "COMPLETED"
    assert caplog.text.count("an observer raised ZeroDivisionError") == 1


async def test_an_observer_of_commits_that_raises(log, caplog, monkeypatch):
    found = observe.ProcessMetrics()
    monkeypatch.setattr(found._tally.commit_seconds, "bounds", None)
    result = await deploy.execute({}, store=log.store)
    found.close()
    assert result.status == "COMPLETED"
    assert caplog.text.count("an observer raised TypeError") == 1
