"""How a cluster is reached, and which values it sees: keys and namespaces, codecs, stores of big values."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
import ssl
import subprocess
import sys
import zlib

import fsspec
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, PayloadCodec

from cerebelum_nb import CerebelumError, StoreError, step, workflow
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.connection import settings
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.worker import Worker


@step
def make(inputs):
    return {"secretish": "plain text of the value", "big": "x" * 20_000}


@step
def size(make, inputs):
    return len(make["big"]) + len(inputs["word"])


@workflow
def sized(wf):
    wf.timeline(make >> size)


class Scrambled(PayloadCodec):
    """A codec like an encrypting one; nobody reads its output by accident."""

    async def encode(self, payloads):
        return [
            Payload(metadata={"encoding": b"binary/scrambled"}, data=zlib.compress(one.SerializeToString()))
            for one in payloads
        ]

    async def decode(self, payloads):
        return [
            Payload.FromString(zlib.decompress(one.data))
            if one.metadata.get("encoding") == b"binary/scrambled"
            else one
            for one in payloads
        ]


async def run(server, log, execution_id, **options):
    worker = Worker(server.url, "access", **options).register_workflow(sized).start()
    await worker.ready()
    try:
        executor = DistributedExecutor(server.url, **options)
        return await executor.execute(sized, {"word": "four"}, execution_id=execution_id, store=log)
    finally:
        await worker.close()


async def test_a_codec_hides_values_from_the_server(server, log):
    converter = dataclasses.replace(DataConverter.default, payload_codec=Scrambled())
    assert (await run(server, log, "codec1", data_converter=converter)).output == 20_004
    history = await (await Cluster.connect(server.url)).handle("codec1").fetch_history()
    assert b"four" not in str(history).encode() and b"WorkflowStarted" not in str(history).encode()
    assert [type(event).__name__ for event in log.events("codec1")][-1] == "WorkflowCompleted"


@pytest.mark.parametrize("scheme", ["file", "memory"])
async def test_big_values_can_be_kept_at_any_url_of_fsspec(server, log, tmp_path, scheme):
    place = f"{scheme}://{tmp_path}/blobs"
    assert (await run(server, log, f"blobs-{scheme}", blobs=place)).output == 20_004
    fs, root = fsspec.core.url_to_fs(place)
    assert sum(info["size"] for info in fs.find(root, detail=True).values()) > 20_000


@pytest.mark.parametrize(("place", "why"), [("s3://bucket/blobs", "s3fs"), ("nowhere://blobs", "Protocol not known")])
def test_an_unusable_place_for_values_is_refused_with_what_to_install(monkeypatch, place, why):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreError, match=rf"(?s)cannot be kept at {place}: .*{why}.*pip install fsspec"):
        Worker(blobs=place)


def test_keys_tls_and_the_namespace_are_read_as_temporals_tools_read_them(monkeypatch, tmp_path):
    for name in ("cert", "key"):
        (tmp_path / name).write_text(f"the {name}")
    monkeypatch.setenv("TEMPORAL_API_KEY", "key-of-ana")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "shop.a1b2c")
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "cert"))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", str(tmp_path / "key"))
    found = settings("temporal.example.com:7233", None)
    assert (found["api_key"], found["namespace"]) == ("key-of-ana", "shop.a1b2c")
    assert (found["tls"].client_cert, found["tls"].client_private_key) == (b"the cert", b"the key")
    assert found["target_host"] == "temporal.example.com:7233"
    assert settings("there:1", "other")["namespace"] == "other"


def certify(folder, name, *authority):
    """Make a certificate and its key; without an authority, the certificate is one."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    if authority:
        made += ["-CA", authority[0], "-CAkey", authority[1], "-addext", "basicConstraints=critical,CA:FALSE"]
        made += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return str(cert), str(key)


@pytest.fixture
async def behind_tls(server, tmp_path):
    """The server behind a TLS proxy that requires a client certificate."""
    authority = certify(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certify(tmp_path, "temporal", *authority))
    context.load_verify_locations(authority[0])
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def pass_on(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def proxy(reader, writer):
        behind = await asyncio.open_connection("127.0.0.1", server.ports[0])
        await asyncio.gather(pass_on(reader, behind[1]), pass_on(behind[0], writer))

    listener = await asyncio.start_server(proxy, "127.0.0.1", 0, ssl=context)
    yield f"localhost:{listener.sockets[0].getsockname()[1]}", authority[0], certify(tmp_path, "ana", *authority)
    listener.close()


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes its certificates, is not on the PATH")
async def test_a_server_that_requires_tls_and_a_certificate_is_reached_with_the_variables(behind_tls, log, monkeypatch):
    url, authority, (cert, key) = behind_tls
    with pytest.raises(StoreError, match="If the server requires TLS, set TEMPORAL_TLS=true"):
        await DistributedExecutor(url).execute(sized, {"word": "four"}, store=log)
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    with pytest.raises(StoreError, match=r"certificate .* is not accepted .* TEMPORAL_TLS_SERVER_CA_CERT_PATH"):
        await DistributedExecutor(url).execute(sized, {"word": "four"}, store=log)
    monkeypatch.setenv("TEMPORAL_TLS_SERVER_CA_CERT_PATH", authority)
    with pytest.raises(StoreError, match="requires a client certificate, TEMPORAL_TLS_CLIENT_CERT_PATH"):
        await DistributedExecutor(url).execute(sized, {"word": "four"}, store=log)
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", cert)
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", key)
    worker = Worker(url, "access").register_workflow(sized).start()
    await worker.ready()
    assert (await DistributedExecutor(url).execute(sized, {"word": "four"}, store=log)).output == 20_004
    await worker.close()


def test_a_worker_reads_a_secret_from_a_variable_or_from_the_file_that_one_names(monkeypatch, tmp_path, caplog):
    worker = Worker("localhost:7233")
    assert worker._secret("token") is None
    monkeypatch.setenv("CEREBELUM_SECRET_TOKEN", "of-the-variable")
    assert worker._secret("token").reveal() == "of-the-variable"
    monkeypatch.setenv("CEREBELUM_SECRET_TOKEN_FILE", str(tmp_path / "token"))
    assert worker._secret("token") is None and "CEREBELUM_SECRET_TOKEN_FILE" in caplog.text
    (tmp_path / "token").write_text("of-the-file\n")
    assert worker._secret("token").reveal() == "of-the-file"


def test_without_the_variables_only_the_namespace_and_the_address_are_set(monkeypatch):
    for name in (
        "TEMPORAL_API_KEY",
        "TEMPORAL_NAMESPACE",
        "TEMPORAL_PROFILE",
        "TEMPORAL_CONFIG_FILE",
        "CEREBELUM_DATA_CONVERTER",
    ):
        monkeypatch.delenv(name, raising=False)
    assert settings("localhost:7233", None) == {"namespace": "default", "target_host": "localhost:7233"}


def test_the_environment_names_the_codec_for_commands(monkeypatch, tmp_path):
    (tmp_path / "shop_crypto.py").write_text(
        "from temporalio.converter import DataConverter\nconverter = DataConverter()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CEREBELUM_DATA_CONVERTER", "shop_crypto:nothing")
    with pytest.raises(CerebelumError, match=r"cannot be loaded .* MODULE:NAME"):
        settings("localhost:7233", None)
    monkeypatch.setenv("CEREBELUM_DATA_CONVERTER", "shop_crypto:converter")
    assert isinstance(settings("localhost:7233", None)["data_converter"], DataConverter)
