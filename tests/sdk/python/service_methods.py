"""Every method of the service clients: that it succeeds, that a wrong key is the SDK's 401, and that none is forgotten."""

import os
import re

import aiohttp
from azure.core.exceptions import ClientAuthenticationError
from azure.messaging.webpubsubservice import WebPubSubServiceClient as SyncServiceClient
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient
from harness import BOTH, connect, expect_error, list_members, run

# Name, call, what it answers. `id` is a connection of user "ann" in group "g".
METHODS = [
    ("send_to_all", lambda hub, id: hub.send_to_all("x"), None),
    ("send_to_user", lambda hub, id: hub.send_to_user("ann", "x"), None),
    ("send_to_connection", lambda hub, id: hub.send_to_connection(id, "x"), None),
    ("send_to_group", lambda hub, id: hub.send_to_group("g", "x"), None),
    ("connection_exists", lambda hub, id: hub.connection_exists(id), True),
    ("user_exists", lambda hub, id: hub.user_exists("ann"), True),
    ("group_exists", lambda hub, id: hub.group_exists("g"), True),
    ("list_connections", lambda hub, id: list_members(hub, group="g"), [("id", "ann")]),
    ("grant_permission", lambda hub, id: hub.grant_permission("sendToGroup", id, target_name="g"), None),
    ("has_permission", lambda hub, id: hub.has_permission("sendToGroup", id, target_name="g"), True),
    ("revoke_permission", lambda hub, id: hub.revoke_permission("sendToGroup", id, target_name="g"), None),
    ("remove_connection_from_group", lambda hub, id: hub.remove_connection_from_group("g", id), None),
    ("remove_user_from_group", lambda hub, id: hub.remove_user_from_group("g", "ann"), None),
    ("remove_connection_from_all_groups", lambda hub, id: hub.remove_connection_from_all_groups(id), None),
    ("remove_user_from_all_groups", lambda hub, id: hub.remove_user_from_all_groups("ann"), None),
    ("add_connection_to_group", lambda hub, id: hub.add_connection_to_group("g", id), None),
    ("add_user_to_group", lambda hub, id: hub.add_user_to_group("g", "ann"), None),
    ("close_connection", lambda hub, id: hub.close_connection("unknown"), None),
    ("close_user_connections", lambda hub, id: hub.close_user_connections("unknown"), None),
    ("close_group_connections", lambda hub, id: hub.close_group_connections("unknown"), None),
    ("close_all_connections", lambda hub, id: hub.close_all_connections(excluded=[id]), None),
]
APART = {"close", "from_connection_string", "get_client_access_token", "send_request"}

PROTOCOLS = [
    ("Default", "/client/hubs/chat"),
    ("MQTT", "/clients/mqtt/hubs/chat"),
    ("SocketIO", "/clients/socketio/hubs/chat"),
]


async def handshake(url):
    """What becomes of a plain WebSocket."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(url):
                return "open"
        except aiohttp.WSServerHandshakeError:
            return "refused"


async def scenario():
    connection_string = os.environ["CONNECTION_STRING"]
    another_key = re.sub("AccessKey=[^;]*", "AccessKey=another-key-0123456789-0123456789", connection_string)
    known = {name for name, _, _ in METHODS} | APART
    for client in (SyncServiceClient, WebPubSubServiceClient):
        public = {name for name in dir(client) if not name.startswith("_")}
        assert public == known, public ^ known

    peer = await connect("ann", groups=["g"], reliable=False)
    for kind, make in BOTH:
        hub, stranger = make(), make(another_key)
        for name, call, answer in METHODS:
            print(kind, name)
            found = await call(hub, peer.id)
            expected = [(peer.id, "ann")] if name == "list_connections" else answer
            assert found == expected, found
            # Answers to HEAD have no body to read a code from.
            is_head = name.endswith("_exists") or name == "has_permission"
            code = None if is_head else "Error.Unauthorized"
            await expect_error(call(stranger, peer.id), ClientAuthenticationError, status=401, code=code)

        # A hub with another name knows nobody of this one; a name that is none is refused.
        assert not await make(hub="elsewhere").connection_exists(peer.id)
        assert await make(hub="CHAT").connection_exists(peer.id)

        # With an access key tokens are made here; the server is who takes them.
        for protocol, path in PROTOCOLS:
            token = await hub.get_client_access_token(
                user_id="u",
                roles=["webpubsub.sendToGroup.g"],
                groups=["g"],
                minutes_to_expire=5,
                jwt_headers={"kid": "1"},
                client_protocol=protocol,
            )
            assert token["baseUrl"].endswith(path) and token["url"] == f"{token['baseUrl']}?access_token={token['token']}"
            wanted = "open" if path.startswith("/client/") else "refused"
            assert await handshake(token["url"]) == wanted, protocol
            # A token of another kind of client opens nothing here.
            assert await handshake(token["url"].replace(path, "/client/hubs/chat")) == wanted, protocol
        expired = await hub.get_client_access_token(minutes_to_expire=-10)
        assert await handshake(expired["url"]) == "refused"
        assert await handshake(expired["baseUrl"]) == "refused"
        await peer.client.join_group("g")


run(scenario)
