"""What every Python scenario needs: clients that remember what came, and waiting with a deadline.

A scenario fails by raising; the Rust side (tests/src/script.rs) shows standard error. Clients are the
async ones: the synchronous client loses acks that are too fast (client-protocols, section 5.1).
"""

import asyncio
import json
import os
import sys
import time
import traceback

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import RetryMode
from azure.messaging.webpubsubclient.aio import WebPubSubClient, WebPubSubClientCredential
from azure.messaging.webpubsubclient.models import (
    CallbackType,
    SendMessageError,
    WebPubSubDataType,
    WebPubSubProtocolType,
)
from azure.messaging.webpubsubservice import WebPubSubServiceClient as SyncServiceClient
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient

ALL_ROLES = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]
JSON, TEXT, BINARY = WebPubSubDataType.JSON, WebPubSubDataType.TEXT, WebPubSubDataType.BINARY
DEADLINE_SECONDS = 60
LOOK_EVERY_SECONDS = 0.002


def service(connection_string=None, hub="chat"):
    """A service client of a hub, as an application makes it."""
    return WebPubSubServiceClient.from_connection_string(
        connection_string or os.environ["CONNECTION_STRING"], hub=hub
    )


class SyncService:
    """The synchronous service client behind the asynchronous one's methods, so that one scenario judges both."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        method = getattr(self.client, name)

        async def call(*args, **kwargs):
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


def sync_service(connection_string=None, hub="chat"):
    """As `service`, over the synchronous client."""
    client = SyncServiceClient.from_connection_string(
        connection_string or os.environ["CONNECTION_STRING"], hub=hub
    )
    return SyncService(client)


BOTH = [("async", service), ("sync", sync_service)]


async def list_members(hub, **options):
    """All members that a list names, as pairs of connection id and user."""
    if isinstance(hub, SyncService):
        listed = await asyncio.to_thread(lambda: list(hub.client.list_connections(**options)))
    else:
        listed = [member async for member in hub.list_connections(**options)]
    return [(member.connection_id, member.user_id) for member in listed]


class Peer:
    """A client that queues what it is told."""

    def __init__(self, client, user_id):
        self.client = client
        self.user_id = user_id
        self.connected = []
        self.disconnected = []
        self.messages = []
        self.id = None

    async def on_connected(self, event):
        self.connected.append(event)

    async def on_disconnected(self, event):
        self.disconnected.append(event)

    async def on_rejoin_failed(self, event):
        print(f"cannot rejoin {event.group}: {event.error}", file=sys.stderr)
        os._exit(1)

    async def on_group(self, event):
        data = list(event.data) if event.data_type == "binary" else event.data
        self.messages.append(
            {"group": event.group, "from": event.from_user_id, "type": str(event.data_type), "data": data}
        )

    async def on_server(self, event):
        data = list(event.data) if event.data_type == "binary" else event.data
        self.messages.append({"type": str(event.data_type), "data": data})

    async def expect_next(self, expected):
        """The next message it gets must be this one."""
        await until(f"{self.user_id} gets {expected}", lambda: self.messages)
        found = self.messages.pop(0)
        assert found == expected, f"{found} != {expected}"

    def expect_nothing(self):
        """Nothing more has come. Say it after something that comes later has arrived."""
        assert not self.messages, self.messages


async def connect(user_id=None, roles=None, groups=None, reliable=True, through=None, comes_back=True):
    """An opened client; unless it `comes_back`, it stays away once it is closed."""
    through = through or service()

    async def url():
        token = await through.get_client_access_token(
            user_id=user_id, roles=ALL_ROLES if roles is None else roles, groups=groups
        )
        return token["url"]

    protocol = WebPubSubProtocolType.JSON_RELIABLE if reliable else WebPubSubProtocolType.JSON
    client = WebPubSubClient(
        WebPubSubClientCredential(url),
        protocol_type=protocol,
        message_retry_total=0,
        reconnect_retry_total=3 if comes_back else 0,
        reconnect_retry_mode=RetryMode.Fixed,
    )
    peer = Peer(client, user_id)
    await client.subscribe(CallbackType.CONNECTED, peer.on_connected)
    await client.subscribe(CallbackType.DISCONNECTED, peer.on_disconnected)
    await client.subscribe(CallbackType.REJOIN_GROUP_FAILED, peer.on_rejoin_failed)
    await client.subscribe(CallbackType.GROUP_MESSAGE, peer.on_group)
    await client.subscribe(CallbackType.SERVER_MESSAGE, peer.on_server)
    await client.open()
    await until("connected", lambda: peer.connected)
    assert (peer.connected[0].user_id or None) == user_id
    peer.id = peer.connected[0].connection_id
    return peer


def group_message(group, user, data_type, data):
    return {"group": group, "from": user, "type": data_type, "data": data}


def server_message(data_type, data):
    return {"type": data_type, "data": data}


def text(data):
    """A server's text as a client sees it."""
    return server_message("text", data)


def group_text(group, data, user=None):
    return group_message(group, user, "text", data)


marks = 0


async def expect_receivers(peers, expected, message):
    """Everyone whose name is in `expected` gets the message next, the others do not: what comes next for all of
    them is a mark, sent last to the whole hub."""
    global marks
    for name in expected:
        await peers[name].expect_next(message)
    marks += 1
    async with service() as hub:
        await hub.send_to_all(f"mark {marks}", content_type="text/plain")
    for peer in peers.values():
        await peer.expect_next(text(f"mark {marks}"))


async def expect_error(awaitable, kind=HttpResponseError, status=400, code="Error.BadRequest", target=None):
    """Expects a service call to fail as the SDK shows errors: exactly that class, status, and the body's code and
    target. Without a code there is no body to read one from."""
    try:
        await awaitable
    except HttpResponseError as error:
        assert type(error) is kind, repr(error)
        assert error.status_code == status, repr(error)
        if code:
            body = json.loads(error.response.text())
            assert (body["code"], body.get("target")) == (code, target), body
            assert len(body["message"]) > 5, body
            assert error.error.code == code, repr(error.error)
            assert error.response.headers["x-ms-error-code"] == code
        return
    raise AssertionError(f"{status} was expected")


async def expect_refused(awaitable, name):
    """Expects a send to fail with that error name."""
    try:
        await awaitable
    except SendMessageError as error:
        assert error.error_detail.name == name, error.error_detail
        return
    raise AssertionError(f"{name} was expected")


async def until(what, holds):
    """Waits for a condition that SDK callbacks make true.

    A bounded poll, since the SDK has no event for most of them; how often it looks changes no outcome."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        result = holds()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"still waiting: {what}")
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def ask(what):
    """Has the Rust side do something and waits until it is done."""
    print(json.dumps({"ask": what}, separators=(",", ":")), flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    assert line, "the harness is gone"


def run(scenario):
    """Runs a scenario and leaves at once: clients that still try to recover would hold the loop."""

    async def to_the_end():
        try:
            await scenario()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)

    asyncio.run(to_the_end())
