"""People are notified once of what needs them, and no run is affected."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from observed import deploy, release

from cerebelum_nb import CerebelumError, ExecutionClient, Secret, connect, sleep, step, workflow
from cerebelum_nb._observe.notify import Notifier

from ..waiting import wait_for

SECOND = 1_000_000


class Now:
    """A clock that a test sets forward."""

    def __init__(self):
        self.ahead = 0

    def __call__(self):
        return time.time_ns() // 1000 + self.ahead

    def forward(self, seconds):
        self.ahead += round(seconds * SECOND)


@pytest.fixture
def now():
    return Now()


@pytest.fixture
def notifier(log, receiver, now):
    with Notifier(log.path, receiver.url, now=now, pause=lambda seconds: None) as opened:
        yield opened


async def test_a_failure_is_sent_once_with_why_and_what_to_do(log, notifier, receiver):
    await log.run("k1", broken=True)
    notifier.look()
    notifier.look()
    (message,) = receiver.messages
    assert message["title"] == "deploy k1 failed in step 'check': ValueError: it is broken"
    assert (message["kind"], message["execution_id"], message["step"]) == ("failed", "k1", "check")
    assert f"cerebelum resume k1 --db {log.path}" in message["text"]


async def test_a_second_failure_of_the_same_execution_is_news(log, notifier, receiver):
    await log.run("k1", broken=True)
    notifier.look()
    await log.resume("k1")
    notifier.look()
    assert len(receiver.messages) == 2


async def test_kinds_that_were_not_chosen_are_not_sent(log, notifier, receiver):
    await log.run("k1")
    notifier.look()
    assert receiver.messages == []


async def test_a_completion_is_sent_if_it_was_chosen(log, receiver):
    with Notifier(log.path, receiver.url, on=["completed"]) as notifier:
        await log.run("k1")
        await log.run("k2", broken=True)
        notifier.look()
    assert receiver.titles == ["deploy k1 is completed"]


async def test_an_approval_is_sent_with_its_data_and_how_to_decide(log, notifier, receiver):
    run = release.start(store=log.store, execution_id="r1")
    while not receiver.messages:
        await asyncio.sleep(0.01)
        notifier.look()
    (message,) = receiver.messages
    assert message["title"] == "release r1 waits for approval 'release' in step 'ask'"
    assert '{"size":1}' in message["text"] and "cerebelum approve r1" in message["text"]
    await ExecutionClient(log.store).approve("r1")
    await run


async def test_an_approval_that_was_decided_meanwhile_is_not_sent(log, notifier, receiver):
    run = release.start(store=log.store, execution_id="r1")
    client = ExecutionClient(log.store)
    while not (await client.list_executions(status="WAITING_FOR_APPROVAL"))[1]:
        await asyncio.sleep(0.01)
    await client.approve("r1")
    await run
    notifier.look()
    assert receiver.messages == []


async def test_an_approval_requested_before_the_first_start_is_sent(log, receiver):
    run = release.start(store=log.store, execution_id="r1")
    client = ExecutionClient(log.store)
    while not (await client.list_executions(status="WAITING_FOR_APPROVAL"))[1]:
        await asyncio.sleep(0.01)
    with Notifier(log.path, receiver.url) as notifier:
        notifier.look()
    assert [message["kind"] for message in receiver.messages] == ["approval"]
    await client.approve("r1")
    await run


async def test_the_next_notifier_sends_what_happened_while_none_ran(log, receiver):
    with Notifier(log.path, receiver.url) as notifier:
        notifier.look()
    await log.run("k1", broken=True)
    for _ in range(2):
        with Notifier(log.path, receiver.url) as notifier:
            notifier.look()
    assert receiver.titles == ["deploy k1 failed in step 'check': ValueError: it is broken"]


async def test_of_two_notifiers_one_sends(log, notifier, receiver, now):
    with Notifier(log.path, receiver.url, now=now) as other:
        await log.run("k1", broken=True)
        other.look()
        notifier.look()
    assert len(receiver.messages) == 1


async def test_many_failures_are_few_messages(log, notifier, receiver, now):
    for number in range(15):
        await log.run(f"k{number:02}", broken=True)
    notifier.look()
    assert len(receiver.messages) == 4
    assert receiver.messages[-1]["title"] == "12 more executions failed"
    assert "deploy k03 failed" in receiver.messages[-1]["text"] and "... and 7 more" in receiver.messages[-1]["text"]
    await log.run("k15", broken=True)
    notifier.look()
    assert len(receiver.messages) == 4
    now.forward(61)
    notifier.look()
    assert receiver.titles[4:] == ["deploy k15 failed in step 'check': ValueError: it is broken"]


async def test_a_missed_wake_up_is_sent(log, notifier, receiver, now):
    log.store.hibernate_after = timedelta(0)

    @step
    async def rest():
        await sleep("1h")

    @workflow
    def later(wf):
        wf.timeline(rest)

    await later.execute(store=log.store, execution_id="s1")
    notifier.look()
    assert receiver.messages == []
    now.forward(3600 + 120)
    notifier.look()
    notifier.look()
    assert [message["kind"] for message in receiver.messages] == ["late"]
    assert receiver.titles[0].startswith("later s1 should have been woken 2m")
    assert "cerebelum scheduler" in receiver.messages[0]["text"]


async def test_a_webhook_is_tried_three_times(log, notifier, receiver):
    receiver.answers[:] = [503, 500]
    await log.run("k1", broken=True)
    notifier.look()
    assert len(receiver.requests) == 3
    assert len({headers["webhook-id"] for _, headers, _ in receiver.requests}) == 1


async def test_what_could_not_be_delivered_is_sent_later(log, notifier, receiver, now, caplog):
    receiver.answers[:] = [503] * 3
    await log.run("k1", broken=True)
    notifier.look()
    notifier.look()
    assert len(receiver.requests) == 3
    assert "http://... could not be reached: it answered 503" in caplog.text
    now.forward(31)
    notifier.look()
    assert len(receiver.requests) == 4
    now.forward(3600)
    notifier.look()
    assert len(receiver.requests) == 4


async def test_a_receiver_that_was_reached_gets_nothing_twice_when_another_was_not(log, receiver, now):
    from receiver import Receiver

    other = Receiver()
    other.answers[:] = [500] * 3
    with Notifier(log.path, [receiver.url, other.url], now=now, pause=lambda seconds: None) as notifier:
        await log.run("k1", broken=True)
        notifier.look()
        now.forward(31)
        notifier.look()
    other.close()
    assert (len(receiver.requests), len(other.requests)) == (1, 4)


async def test_a_webhook_is_signed_as_the_standard_says(log, receiver, monkeypatch):
    key = b"0123456789abcdef"
    monkeypatch.setenv("CEREBELUM_NOTIFY_SECRET", "whsec_" + base64.b64encode(key).decode())
    with Notifier(log.path, receiver.url) as notifier:
        await log.run("k1", broken=True)
        notifier.look()
    ((_, headers, body),) = receiver.requests
    signed = b"%s.%s.%s" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    wanted = base64.b64encode(hmac.digest(key, signed, sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


async def test_a_redirect_is_not_followed(log, notifier, receiver):
    receiver.answers[:] = [302] * 3
    await log.run("k1", broken=True)
    notifier.look()
    assert len(receiver.requests) == 3


async def test_apprise_takes_every_other_url(log, receiver):
    where = receiver.url.removeprefix("http://")
    with Notifier(log.path, f"form://{where}") as notifier:  # not one of ours
        await log.run("k1", broken=True)
        notifier.look()
    ((_, _, body),) = receiver.requests
    assert b"deploy+k1+failed" in body and b"type=failure" in body


async def test_secrets_are_masked_in_notifications(log, notifier, receiver):
    @step
    def leak(inputs):
        raise ValueError(f"no access with {inputs['token'].reveal()}")

    @workflow
    def leaks(wf):
        wf.timeline(leak)

    await log.run("k1", workflow=leaks, token=Secret("s3cr3t-token"))
    notifier.look()
    assert receiver.messages and b"s3cr3t-token" not in receiver.requests[0][2]


async def test_the_url_is_neither_shown_nor_kept(log, tmp_path, caplog, receiver):
    receiver.answers[:] = [404] * 3
    url = receiver.url + "?token=s3cr3t-token"
    with Notifier(log.path, url, pause=lambda seconds: None) as notifier:
        await log.run("k1", broken=True)
        notifier.look()
    kept = Path(f"{log.path}.notified")
    assert "could not be reached" in caplog.text and "s3cr3t" not in caplog.text
    assert b"s3cr3t" not in kept.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_urls_come_from_the_environment_or_a_file(log, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOKS", "https://a.example/x https://b.example/y")
    kept = tmp_path / "hooks"
    kept.write_text("# the team\njson://c.example/z\n")
    with Notifier(log.path, ["env:HOOKS", f"file:{kept}", "https://a.example/x"]) as notifier:
        assert [channel.shown for channel in notifier.channels] == ["https://...", "https://...", "json://..."]


@pytest.mark.parametrize("place", ["env:NO_SUCH", "file:/no/such", "somebody", "", "no-such-service://x"])
def test_an_unreachable_receiver_is_reported_without_its_secret(log, place):
    with pytest.raises(CerebelumError):
        Notifier(log.path, place)


def test_a_log_that_is_not_there_leaves_no_file(tmp_path):
    with pytest.raises(CerebelumError, match="log"):
        Notifier(tmp_path / "none.db", "https://a.example")
    assert list(tmp_path.iterdir()) == []


async def test_a_session_sends_notifications_until_its_log_is_closed(tmp_path, receiver):
    store = connect(tmp_path / "log.db", durability="normal", notify=receiver.url)
    try:
        await deploy.start({"broken": True}, store=store, execution_id="k1").wait()
    except CerebelumError:
        pass
    store.close()  # it tells what it knows first
    assert receiver.titles == ["deploy k1 failed in step 'check': ValueError: it is broken"]


@pytest.mark.process
async def test_a_scheduler_and_a_dashboard_send_notifications_too_and_share_the_work(log, receiver):
    """Each starts its notifier before it reports that it is ready, and sends what it knows before it ends."""
    commands = (["scheduler", f"--db={log.path}"], ["dashboard", str(log.path), "--port=0"])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cerebelum_nb", *command, f"--notify={receiver.url}"], stdout=subprocess.PIPE
        )
        for command in commands
    ]
    for process in processes:
        process.stdout.readline()
    await log.run("k1", broken=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.communicate(timeout=60)
    assert receiver.titles == ["deploy k1 failed in step 'check': ValueError: it is broken"]


async def test_a_notifier_that_cannot_work_warns_once_and_harms_no_run(log, receiver, caplog):
    caplog.set_level(logging.WARNING)
    with Notifier(log.path, receiver.url, every=0.01) as notifier:
        with closing(sqlite3.connect(f"{log.path}.notified")) as db:
            db.execute("DROP TABLE news")
        notifier.start()
        for number in range(5):
            await log.run(f"k{number}")
    assert caplog.text.count("notifications: what was sent cannot be recorded") == 1


KILLED = """
import os, signal, sys
from cerebelum_nb import connect, step, workflow

@step
def stuck():
    os.kill(os.getpid(), signal.SIGKILL)

@workflow
def doomed(wf):
    wf.timeline(stuck)

connect(sys.argv[1])
doomed.run(execution_id="k1")
"""


@pytest.mark.process
def test_a_killed_process_is_notified_and_counted_as_interrupted(log, receiver, now):
    from prometheus_client import CollectorRegistry

    from cerebelum_nb import observe

    killed = subprocess.run([sys.executable, "-c", KILLED, str(log.path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with Notifier(log.path, receiver.url, now=now) as notifier:
        notifier.look()
        assert receiver.messages == []  # a scheduler may take it up
        now.forward(11)
        notifier.look()
        notifier.look()
    assert receiver.titles == ["doomed k1 was interrupted in step 'stuck': its process is gone"]
    registry, metrics = CollectorRegistry(), observe.LogMetrics(log.path)
    registry.register(metrics)
    assert registry.get_sample_value("cerebelum_executions_interrupted") == 1
    metrics.close()


@pytest.mark.process
def test_the_command_sends_and_shows_no_secret(log, receiver):
    command = [sys.executable, "-W", "error", "-m", "cerebelum_nb", "notify", str(log.path)]
    process = subprocess.Popen(
        [*command, "--to", "env:HOOK", "--link", "http://localhost:8799"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HOOK": receiver.url + "?token=s3cr3t"},
    )
    line = process.stdout.readline()
    assert "http://..." in line
    asyncio.run(log.run("k1", broken=True))
    wait_for(lambda: receiver.messages, "somebody is told")
    process.terminate()
    rest, _ = process.communicate()
    assert process.returncode == 0
    assert receiver.messages[0]["link"] == "http://localhost:8799/e/k1"
    assert "s3cr3t" not in line + rest
    assert json.loads(receiver.requests[0][2])["text"].endswith("http://localhost:8799/e/k1")
