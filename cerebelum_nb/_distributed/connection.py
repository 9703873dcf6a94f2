"""Connecting to a cluster, and the errors if nothing answers or it is not a Temporal server."""

from __future__ import annotations

import asyncio
import os
import re
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

from temporalio.client import Client
from temporalio.runtime import LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode

from ..errors import CerebelumError, ExecutionNotFoundError, StoreError
from .settings import SEARCH_STATE, SEARCH_WORKFLOW

__all__ = ["connect", "explain", "is_not_found", "runtime", "settings", "short_reason"]

_SECONDS = 5.0


@cache
def runtime(metrics: str = "") -> Runtime:
    """Return the SDK's runtime of this process, which logs only errors: this library reports the rest.

    Args:
        metrics: HOST:PORT where Prometheus can read the SDK's metrics; "" for none.
    """
    quiet = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    shown = PrometheusConfig(bind_address=metrics) if metrics else None
    return Runtime(telemetry=TelemetryConfig(logging=quiet, metrics=shown))


async def connect(url: str, namespace: str | None = None, *, identity: str | None = None, **options: Any) -> Client:
    """Connect to a cluster.

    TLS, an API key and the address are read as Temporal's own tools read them, from its environment variables and its
    configuration file, if ``TEMPORAL_PROFILE``, ``TEMPORAL_API_KEY`` or ``TEMPORAL_TLS...`` is set.

    Args:
        url: HOST:PORT.
        namespace: by default ``$TEMPORAL_NAMESPACE``, else ``default``.
        identity: the name of this client on Temporal's pages.
        options: other options of ``temporalio.client.Client.connect``.

    Raises:
        StoreError: nothing answers there, it is not a Temporal server, or it has no such namespace.
    """
    wanted = settings(url, namespace) | options
    if identity is not None:
        wanted["identity"] = identity
    wanted.setdefault("runtime", runtime())
    try:
        async with asyncio.timeout(_SECONDS):
            client = await Client.connect(**wanted)
            await _check_namespace(client, url)
    except TimeoutError:
        raise StoreError(_not_temporal(url, "it does not answer"), transient=True) from None
    except (RuntimeError, RPCError) as error:
        explain(error, url)
    return client


def settings(url: str, namespace: str | None) -> dict[str, Any]:
    """Return the arguments for a connection, from Temporal's environment variables and configuration file.

    ``$CEREBELUM_DATA_CONVERTER`` names a ``DataConverter``, such as one with a codec: ``shop.crypto:converter``.

    Args:
        url: HOST:PORT.
        namespace: by default ``$TEMPORAL_NAMESPACE``, else ``default``.

    Raises:
        CerebelumError: the data converter cannot be loaded.
    """
    wanted: dict[str, Any] = {}
    if any(name in os.environ for name in ("TEMPORAL_PROFILE", "TEMPORAL_API_KEY", "TEMPORAL_CONFIG_FILE")) or any(
        name.startswith("TEMPORAL_TLS") for name in os.environ
    ):
        from temporalio.envconfig import ClientConfig

        wanted = dict(ClientConfig.load_client_connect_config())
    if named := os.environ.get("CEREBELUM_DATA_CONVERTER"):
        wanted["data_converter"] = _converter(named)
    found = namespace or os.environ.get("TEMPORAL_NAMESPACE") or wanted.get("namespace") or "default"
    return {**wanted, "namespace": found, "target_host": url}


def _converter(named: str) -> Any:
    module, _, name = named.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CerebelumError(
            f"CEREBELUM_DATA_CONVERTER={named} cannot be loaded ({error}). It is MODULE:NAME of a "
            f"temporalio.converter.DataConverter, such as shop.crypto:converter"
        ) from None


async def _check_namespace(client: Client, url: str) -> None:
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise StoreError(
                f"the Temporal server at {url} has no namespace {client.namespace!r}. Create it with\n\n"
                f"    temporal operator namespace create -n {client.namespace} --address {url} --retention 720h\n\n"
                f"or name another one with TEMPORAL_NAMESPACE"
            ) from None
        if error.status is RPCStatusCode.PERMISSION_DENIED:  # describing it is refused; using it may be allowed
            return
        raise


def explain(error: BaseException, url: str, execution_id: str = "") -> NoReturn:
    """Raise this library's error for an error of the SDK; it says what to do."""
    if isinstance(error, RPCError):
        match error.status:
            case RPCStatusCode.NOT_FOUND if execution_id:
                raise ExecutionNotFoundError(
                    f"There is no execution {execution_id!r} on {url}. List what there is with "
                    f"`cerebelum list --core {url}`."
                ) from None
            case RPCStatusCode.UNAVAILABLE | RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED:
                raise StoreError(_unreachable(url, error.message), transient=True) from None
            case RPCStatusCode.UNAUTHENTICATED | RPCStatusCode.PERMISSION_DENIED:
                raise StoreError(
                    f"the Temporal server at {url} refuses access ({error.message}). Set TEMPORAL_API_KEY, or the "
                    f"TEMPORAL_TLS variables: docs/cluster.md says which"
                ) from None
            case RPCStatusCode.INVALID_ARGUMENT if re.search(r"search attribute", error.message, re.IGNORECASE):
                raise StoreError(
                    f"the Temporal server at {url} does not have the search attributes that lists need. Add them with\n"
                    f"\n    temporal operator search-attribute create --address {url} "
                    f"--name {SEARCH_STATE} --type Keyword --name {SEARCH_WORKFLOW} --type Keyword"
                ) from None
            case RPCStatusCode.UNIMPLEMENTED:
                raise StoreError(_not_temporal(url, "it does not know the calls of one, or is too old")) from None
        raise StoreError(f"the Temporal server at {url} refused: {error.message}") from error
    text = str(error)
    if re.search(r"refused|dns|resolve|unreachable|no route|timed out|timeout|deadline", text, re.IGNORECASE):
        raise StoreError(_unreachable(url, short_reason(text)), transient=True) from None
    if (wrong := re.search(r"InvalidCertificate\((\w+)", text)) is not None:
        raise StoreError(
            f"the certificate of the Temporal server at {url} is not accepted ({wrong[1]}): if an authority of your "
            f"own made it, set TEMPORAL_TLS_SERVER_CA_CERT_PATH; if it is for another name, TEMPORAL_TLS_SERVER_NAME"
        ) from None
    if re.search(r"h2 protocol error|connection closed", text):
        raise StoreError(_not_temporal(url, "it does not speak gRPC")) from None
    raise StoreError(
        _not_temporal(url, short_reason(text)), transient=True
    ) from error  # it may be starting or stopping


def is_not_found(error: BaseException) -> bool:
    """Whether an error says that there is no such execution."""
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND


def short_reason(text: str) -> str:
    """Return the reason in a few words; the SDK's text joins the messages of four libraries."""
    if "refused" in text:
        return "nothing listens there"
    if "dns" in text.lower() or "resolve" in text:
        return "there is no host of that name"
    if re.search("timed out|timeout|deadline", text, re.IGNORECASE):
        return "it does not answer in time"
    if "ConnectionReset" in text or "transport error" in text:
        return "it closed the connection"
    if "tcp connect error" in text:
        return "no connection can be made"
    return " ".join(text.split())[:160]


def _unreachable(url: str, why: str) -> str:
    what = f"no Temporal server can be reached at {url} ({short_reason(why)})."
    if not _is_local(url):
        return f"{what} Can this machine reach it? If not, name {_ANOTHER}"
    port = url.rpartition(":")[2]
    start = "cerebelum cluster up" if port == "7233" else f"cerebelum cluster up --port {port}"
    return f"{what} Start one on this machine with\n\n    {start}\n\nor name {_ANOTHER}"


def _not_temporal(url: str, why: str) -> str:
    start = ", or start one with `cerebelum cluster up`" if _is_local(url) and not url.endswith(":7233") else ""
    return (
        f"what listens at {url} does not answer as a Temporal server does: {why}. The port for calls (gRPC) is "
        f"7233 unless it was changed; its web page has another one. If the server requires TLS, set TEMPORAL_TLS=true; "
        f"if it requires a client certificate, TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH.\n"
        f"Name {_ANOTHER}{start}"
    )


def _is_local(url: str) -> bool:
    return url.rpartition(":")[0] in ("localhost", "127.0.0.1")


_ANOTHER = "the server with core_url='HOST:PORT', --core HOST:PORT or CEREBELUM_CORE_URL"
