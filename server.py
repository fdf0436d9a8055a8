"""The composition root: settings → log → hub → application → uvicorn.

    uv run server.py [--port 8010 …]     serve
    uv run server.py COMMAND …           one of `COMMANDS`, which `--help` lists

Exit codes: 0 after SIGTERM or Ctrl-C, 2 when a setting or the log cannot be used, 1 for anything else.
"""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError

from delivery.hubs import Hubs
from delivery.shares import CohortBounds
from errors import StartupError, Unavailable
from message_log.growth import Growth, GrowthPolicy
from message_log.retention import Retention, RetentionPolicy
from message_log.sql import SqlMessageLog
from resolvers.chat import Chat
from resolvers.post_rate import PostRate
from schema.contract import Schema, build_schema
from schema.operations import Operations
from schema.persisted_queries import PersistedQueries, read_trusted_documents
from schema.proportions import DocumentLimits
from settings import Settings, parse_settings, unknown_variables
from transports.app import build_app
from transports.gate.addresses import TrustedProxies
from transports.gate.admission import Admission
from transports.gate.connections import Connections
from transports.gate.elsewhere import NOWHERE
from transports.gate.identity import JwtIdentity, build_identity
from transports.gate.limits import Limits
from transports.gate.origins import is_loopback
from transports.pages.pages import Pages, installed_playground
from transports.serving.draining import DrainingServer, Pace
from transports.serving.held_bytes import HeldBytes
from transports.serving.http_protocol import HttpProtocol
from transports.serving.socket_options import limit_unacknowledged, limit_unsent
from transports.serving.websocket_protocol import WebSocketProtocol
from transports.sight.logs import log_handler
from transports.wire.sockets import anyone

if TYPE_CHECKING:  # A server of one process needs nothing of `workers`.
    from workers.part import Part

logger = logging.getLogger("raqcoon")

OPEN_FILES = 65_536
"""The soft limit of open files that the server asks for: one for each connection, and a few of its own."""
OWN_FILES = 256
"""Open files that are no connections: those of the log, of the listener and of Python."""
SWITCH_INTERVAL_SECONDS = 0.0005
"""How long the event loop may keep the GIL from the log's writer thread. With Python's 5 ms a busy loop starves it."""
COLLECTOR_THRESHOLDS = (5_000, 5, 1_000)
"""Thresholds of Python's garbage collector. The cyclic garbage of new connections is found by the collections of the
young generations. A full collection takes 0.5 s with 9,000 connections and finds nothing, because closed connections
are freed by reference counts. So full collections are rare: once in 25 million allocations that outlive others. Then
setting up 5,000 connections takes 0.3 s of collecting, and not 1.0 s."""
LISTEN_BACKLOG = 4096
STOCK_PAGE = " (Strawberry's stock page, which loads from a CDN: the page of playground/ was not built)"
IDLE_HTTP_SECONDS = 75
"""How long an idle HTTP connection is kept for its next request. Clients (httpx: 5 s) and balancers (nginx: 60 s) keep
it for a shorter time. The side that sends the next request must be the first to close. With uvicorn's 5 s, a post was
sometimes lost on a connection that was just being closed."""


class Command(NamedTuple):
    """What `server.py` does instead of serving. `run` takes the arguments after the name and returns the exit code.

    `run` imports what it needs by itself, so that a start does not wait for it.
    """

    arguments: str
    summary: str
    run: Callable[[Sequence[str]], int]


def _copy(arguments: Sequence[str]) -> int:
    from message_log.copy_command import copy_command

    return copy_command(arguments)


def _new_epoch(arguments: Sequence[str]) -> int:
    from message_log.new_epoch import new_epoch_command

    return new_epoch_command(arguments)


def _erase(arguments: Sequence[str]) -> int:
    import argparse

    from tqdm import tqdm

    from resolvers.erasing import erase_author

    parser = argparse.ArgumentParser(
        prog="server.py erase",
        description="Erases every message of an author and takes the name from them. It may be interrupted and run "
        "again. A SQLite log must not be served meanwhile: there, ask the server for `eraseAuthor`.",
    )
    parser.add_argument("--author", required=True, help="whose messages are erased")
    parser.add_argument("--database-url", default=None, help="the log; by default RAQCOON_DATABASE_URL")
    chosen = parser.parse_args(arguments)
    url = chosen.database_url or parse_settings([]).database_url

    async def erase() -> int:
        log = SqlMessageLog(url)
        await log.open(Hubs(log))
        try:
            with tqdm(unit=" messages") as bar:
                return await erase_author(log, chosen.author, by=None, progress=lambda done: bar.update(done - bar.n))
        finally:
            await log.close()

    try:
        print(f"erased {asyncio.run(erase())} messages")
    except Unavailable as error:
        raise StartupError(f"erasing stopped, and may be run again: {error}") from error
    except KeyboardInterrupt:
        raise StartupError("erasing was interrupted, and may be run again") from None
    return 0


def _with_revocations(name: str) -> Callable[[Sequence[str]], int]:
    def run(arguments: Sequence[str]) -> int:
        from message_log import revocation_commands
        from resolvers import input_rules
        from resolvers.revocations import end_of

        rules = revocation_commands.Rules(input_rules.author, input_rules.channel_id, end_of)
        command = getattr(revocation_commands, f"{name}_command")
        return int(command(arguments, rules, parse_settings([]).database_url))

    return run


COMMANDS = {
    "copy": Command("SOURCE_URL TARGET_URL", "copy a whole log to another database", _copy),
    "erase": Command("--author NAME", "erase every message of an author, and the name", _erase),
    "revoke": Command("AUTHOR [--channel C] [--until T]", "take an author's access away", _with_revocations("revoke")),
    "restore": Command("AUTHOR [--channel C]", "give it back", _with_revocations("restore")),
    "revocations": Command("", "list whose access is revoked", _with_revocations("revocations")),
    "new-epoch": Command("DATABASE_URL", "make old cursors invalid, after restoring a backup", _new_epoch),
}


def _commands_help() -> str:
    lines = (f"  {name + ' ' + command.arguments:48} {command.summary}" for name, command in COMMANDS.items())
    return "\n".join(["commands:", *lines, "", "server.py COMMAND --help tells more of one."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server, or a command, and returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and (command := COMMANDS.get(arguments[0])) is not None:
            return command.run(arguments[1:])
        settings = parse_settings(arguments, commands_help=_commands_help())
        logging.basicConfig(level=settings.log_level.upper(), handlers=[log_handler(settings.log_format)])
        logging.getLogger("alembic").setLevel(logging.WARNING)
        for warning in unknown_variables():
            logger.warning(warning)
        checked = _check(settings)
        if settings.worker_count == 1:
            _run(serve(settings, checked))
        else:
            from processes import supervise

            supervise(
                settings,
                listen=partial(_listen_for, settings),
                serve=lambda part: serve(settings, checked, part),
                run=_run,
                announce=partial(_announce, settings),
            )
    except StartupError as error:
        return _refuse(str(error))
    except (ValidationError, SettingsError) as error:
        return _refuse(_setting_problem(error))
    return 0


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine on a new event loop, to the end of the process."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)
        _ignore_sigterm()


def _ignore_sigterm() -> None:
    """Ignores SIGTERM from now on to the end of the process. When the loop is closed, SIGTERM gets its default action
    again, which kills the process. So the signal is blocked before that, and stays blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


class Checked(NamedTuple):
    """What is made of settings that may be unusable. It is made before the server creates, opens or starts anything."""

    persisted_queries: PersistedQueries
    proxies: TrustedProxies | None
    identity: JwtIdentity | None


def _check(settings: Settings) -> Checked:
    """Makes it, in the first process.

    Raises:
        StartupError: trusted documents, trusted proxies or keys cannot be used.
    """
    return Checked(
        _persisted_queries(settings),
        TrustedProxies(settings.trusted_proxies) if settings.trusted_proxies else None,
        _identity(settings),
    )


async def serve(settings: Settings, checked: Checked, part: "Part | None" = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    `part` is the part of a worker in a server with several workers. It is None if this process is the whole server.

    Raises:
        StartupError: the address, the log, or a key file that has changed since it was checked cannot be used.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    open_files = _raise_open_files()
    listener = _listen_for(settings, settings.port) if part is None else part.listener
    host, port = listener.getsockname()[:2]
    log = _log(settings, part)
    hubs = Hubs(
        log,
        max_cohorts=settings.max_cohorts,
        bounds=CohortBounds(settings.max_cohorts_per_channel, settings.max_cohorts_per_client),
        sweep_interval_seconds=settings.sweep_interval_seconds,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        proxies, identity = checked.proxies, checked.identity
        if identity is not None:
            await identity.load()
        await log.open(hubs)
        stack.push_async_callback(log.close)
        await hubs.start()
        stack.push_async_callback(hubs.stop)
        if part is None or part.retains:
            retention = Retention(log, settings.part(RetentionPolicy))
            retention.start()
            stack.push_async_callback(retention.stop)
            growth = Growth(log, settings.part(GrowthPolicy))
            growth.start()
            stack.push_async_callback(growth.stop)
        if part is None or part.first:
            _tell_who_may(settings)
        max_connections = settings.max_connections
        if open_files is not None and max_connections > (open_files - OWN_FILES) * settings.worker_count:
            max_connections = max(1, open_files - OWN_FILES) * settings.worker_count
            if part is None or part.first:
                logger.info("at most %d connections: the limit of open files is %d", max_connections, open_files)
        chat = Chat(
            log=log,
            hubs=hubs,
            content_bytes_max=settings.content_bytes_max,
            post_rate=_post_rate(settings, part),
        )
        connections = Connections(
            max_connections=max_connections,
            max_per_address=settings.max_connections_per_address,
            # Counts clients by the addresses that trusted proxies tell. `Admission` counts TCP connections, also of
            # proxies.
            elsewhere=NOWHERE if part is None else part.sockets,
        )
        if identity is not None:
            identity.watch(connections.expel)
            stack.push_async_callback(identity.stop)
        app = build_app(
            chat,
            Operations(
                _traced(chat) if settings.tracing else None,
                persisted_queries=checked.persisted_queries,
                limits=settings.part(DocumentLimits),
            ),
            allowed_origins=settings.allowed_origins,
            bound_host=settings.host,
            limits=settings.part(Limits),
            metrics=settings.metrics,
            others=None if part is None else part.peers,
            pages=Pages(installed_playground()),
            connections=connections,
            authenticate=anyone if identity is None else identity.authenticate,
            proxies=proxies,
        )
        admission = Admission(
            max_connections=max_connections,
            max_per_address=settings.max_connections_per_address,
            proxies=proxies,
            elsewhere=NOWHERE if part is None else part.connections,
        )
        http = partial(
            HttpProtocol,
            admission=admission,
            headers_bytes_max=settings.max_header_bytes,
            held_bytes=HeldBytes(settings.max_unfinished_bytes),
            headers_seconds=settings.header_timeout_seconds,
            request_seconds=settings.request_timeout_seconds,
        )
        server = DrainingServer(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", http),
                ws=WebSocketProtocol,
                ws_max_size=settings.body_bytes_max,
                ws_ping_interval=None,
                ws_per_message_deflate=settings.websocket_compression,
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                backlog=LISTEN_BACKLOG,
                timeout_keep_alive=IDLE_HTTP_SECONDS,
            ),
            chat,
            end_streams=app.end_streams,
            on_started=partial(_announce, settings, host, port, log.location) if part is None else part.ready,
            pace=_pace(settings, part),
            cut_signal=signal.SIGINT if part is None else part.cut_signal,
            stop_listening=None if part is None else part.stop_listening,
        )
        if app.metrics is not None:
            app.metrics.keepalive = server.keepalive
            if part is not None:
                await part.peers.serve(part.figures_listener, app.metrics.figures)
                stack.callback(part.peers.stop)
        # Everything that exists now is needed until the end. So no garbage collection need look at it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        await server.serve(sockets=[listener])


def _identity(settings: Settings) -> JwtIdentity | None:
    """What reads the tokens of clients, if these settings ask for tokens.

    Raises:
        StartupError: the keys are not given, or cannot be used.
    """
    if settings.auth != "jwt":
        return None
    identity = build_identity(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        jwks=settings.jwt_jwks,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        cookie=settings.jwt_cookie,
        required_claims=settings.jwt_required_claims,
        jwks_refresh_seconds=settings.jwt_jwks_refresh_seconds,
        weak_secret_allowed=settings.jwt_allow_weak_secret,
    )
    identity.check()
    return identity


def _tell_who_may(settings: Settings) -> None:
    """Logs a warning if anybody may do everything."""
    if settings.auth == "jwt":
        return
    if settings.jwt_secret is not None or settings.jwt_jwks is not None:
        logger.warning(
            "RAQCOON_JWT_* is set and not used: RAQCOON_AUTH is none. Set RAQCOON_AUTH=jwt to ask for tokens"
        )
    if not is_loopback(settings.host):
        logger.warning(
            "ANYBODY WHO CAN REACH %s MAY READ AND POST EVERYTHING, UNDER ANY NAME, AND MANAGE IT: "
            "set RAQCOON_AUTH=jwt, or listen on 127.0.0.1",
            settings.host,
        )
    else:
        logger.info("without RAQCOON_AUTH=jwt everybody on this machine may read, post and manage everything")


def _persisted_queries(settings: Settings) -> PersistedQueries:
    """The documents that these settings trust.

    Raises:
        StartupError: they cannot be read, or nothing else is to be run and there are none.
    """
    trusted = {} if settings.trusted_documents is None else read_trusted_documents(settings.trusted_documents)
    if settings.only_trusted_documents and not trusted:
        raise StartupError(
            "RAQCOON_ONLY_TRUSTED_DOCUMENTS is set, but there is no trusted document: "
            "let RAQCOON_TRUSTED_DOCUMENTS name a file that has some"
        )
    return PersistedQueries(trusted, only_trusted=settings.only_trusted_documents)


def _traced(chat: Chat) -> Schema:
    """Begins to trace posts on their way to subscribers. Returns the contract with Strawberry's spans around
    operations."""
    try:
        from resolvers.tracing import Tracing, provider_by_environment
        from schema.tracing import spans
    except ImportError:
        raise StartupError("RAQCOON_TRACING needs the package opentelemetry-sdk, which is not installed") from None
    chat.tracing = Tracing(provider_by_environment())
    chat.hub.figures.on_sweep = chat.tracing.swept
    return build_schema([spans(chat.tracing.provider)])


def _log(settings: Settings, part: "Part | None") -> SqlMessageLog:
    """The log, which a worker on SQLite shares with its owner."""
    if part is not None and part.log is not None:
        return part.log
    return SqlMessageLog(settings.database_url, notify_url=settings.notify_url)


def _post_rate(settings: Settings, part: "Part | None") -> PostRate | None:
    if settings.posts_per_second is None:
        return None
    if part is None:
        return PostRate(settings.posts_per_second)
    return PostRate(settings.posts_per_second, authors=part.authors, addresses=part.addresses)


def _pace(settings: Settings, part: "Part | None") -> Pace:
    """A worker's share of the pace that all drain at."""
    pace = settings.part(Pace)
    share = max(1, pace.drain_sockets_per_second // settings.worker_count)
    return pace if part is None else replace(pace, drain_sockets_per_second=share)


def _announce(settings: Settings, host: str, port: int, location: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}"
    workers = settings.worker_count
    if settings.log_format == "json":
        figures = {"address": address, "log": location, **({"workers": workers} if workers > 1 else {})}
        logger.info("listening", extra={"figures": figures})
        return
    playground = "" if Pages(installed_playground()).playground_is_built else STOCK_PAGE
    print(
        f"RAQCOON listens on {address}\n"
        + (f"  workers     {workers}\n" if workers > 1 else "")
        + f"  log         {location}\n"
        f"  console     {address}/\n"
        f"  playground  {address}/graphql{playground}",
        flush=True,
    )


def _listen_for(settings: Settings, port: int, reuse_port: bool = False) -> socket.socket:
    listener = _listen(settings.host, port, reuse_port)
    # Twice the time after which a slow subscriber is cut. Clients that do not read are found by that time, and clients
    # that have gone without closing the connection by this one.
    limit_unacknowledged(listener, 2 * settings.slow_subscriber_timeout_seconds)
    return listener


def _listen(host: str, port: int, reuse_port: bool) -> socket.socket:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG, reuse_port=reuse_port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "another program uses this port. Stop that program, or choose another port with --port (RAQCOON_PORT)"
        else:
            why = error.strerror or str(error)
        raise StartupError(f"cannot listen on {host}:{port}: {why}") from None
    # Accepted sockets inherit this. Small frames must not wait for the acknowledgement of earlier ones.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    limit_unsent(listener)  # This is for event streams. WebSockets set it by themselves.
    return listener


def _raise_open_files() -> int | None:
    """Raises the soft limit of open files as far as possible, and returns it. None if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return None if soft == resource.RLIM_INFINITY else soft


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # Not built for Windows.
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _setting_problem(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error).splitlines()[0]
    first = error.errors()[0]
    name = "RAQCOON_" + str(first["loc"][0]).upper()
    given = "" if "SECRET" in name else f" (got {first.get('input')!r})"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}{given}"


def _refuse(problem: str) -> int:
    print(f"raqcoon: {problem}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
