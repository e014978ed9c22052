"""The SDKs with token credentials instead of access keys: tokens of an issuer that the server trusts, over TLS,
without which they send none."""

import os
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.messaging.webpubsubclient.models import OpenClientError
from azure.messaging.webpubsubservice import WebPubSubServiceClient as SyncServiceClient
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient
from harness import (
    SyncService,
    connect,
    expect_error,
    expect_refused,
    group_text,
    run,
    server_message,
    service,
    text,
    until,
)

ENDPOINT = os.environ["ENDPOINT"]
SCOPE = "https://webpubsub.azure.com/.default"


def access_token(token, scopes):
    """As libraries of identity providers answer: a token and its end."""
    assert scopes == (SCOPE,), scopes
    return AccessToken(token, int(time.time()) + 3600)


class Credential:
    def __init__(self, token):
        self.token = token

    def get_token(self, *scopes, **_):
        return access_token(self.token, scopes)


class AsyncCredential(Credential):
    async def get_token(self, *scopes, **_):
        return access_token(self.token, scopes)


def async_with(token, endpoint=ENDPOINT):
    return WebPubSubServiceClient(endpoint, "chat", AsyncCredential(token))


def sync_with(token, endpoint=ENDPOINT):
    return SyncService(SyncServiceClient(endpoint, "chat", Credential(token)))


async def scenario():
    for reliable, service_with in ((True, async_with), (False, sync_with)):
        owner = service_with(os.environ["OWNER_TOKEN"])
        assert (await owner.get_client_access_token(user_id="x"))["url"].startswith("wss://")
        try:
            await service_with(os.environ["OWNER_TOKEN"], ENDPOINT.replace("https", "http")).user_exists("ann")
            raise AssertionError("the SDK sent a token without TLS")
        except ServiceRequestError as error:
            assert "non-TLS" in str(error), error

        # A token the server made opens the connection; it says who connects, what for, and into which group.
        roles = ["webpubsub.joinLeaveGroup.g"]
        start = {"roles": roles, "groups": ["first"], "reliable": reliable}
        ann = await connect("ann", **start, through=owner, comes_back=False)
        await owner.send_to_group("first", "from the start", content_type="text/plain")
        await ann.expect_next(group_text("first", "from the start"))
        await owner.send_to_all({"to": "all"})
        await ann.expect_next(server_message("json", {"to": "all"}))
        await owner.send_to_user("ann", "to the user", content_type="text/plain")
        await ann.expect_next(text("to the user"))
        await owner.send_to_connection(ann.id, "to the connection", content_type="text/plain")
        await ann.expect_next(text("to the connection"))

        assert await owner.connection_exists(ann.id)
        assert await owner.user_exists("ann")
        assert not await owner.user_exists("ben")
        assert not await owner.group_exists("g")
        await ann.client.join_group("g")
        assert await owner.group_exists("g")

        await expect_refused(ann.client.send_to_group("g", "x", data_type="text"), "Forbidden")
        await owner.grant_permission("sendToGroup", ann.id, target_name="g")
        assert await owner.has_permission("sendToGroup", ann.id, target_name="g")
        await ann.client.send_to_group("g", "granted", data_type="text")
        await ann.expect_next(group_text("g", "granted", user="ann"))
        await owner.revoke_permission("sendToGroup", ann.id, target_name="g")
        assert not await owner.has_permission("sendToGroup", ann.id, target_name="g")

        # Who may only look. Answers to HEAD have no body to read a code from.
        reader = service_with(os.environ["READER_TOKEN"])
        assert await reader.connection_exists(ann.id)
        assert not await reader.user_exists("ben")
        assert await reader.group_exists("g")
        assert await reader.has_permission("joinLeaveGroup", ann.id, target_name="g")
        forbidden = {"status": 403, "code": "Error.Forbidden"}
        await expect_error(reader.send_to_all("x", content_type="text/plain"), **forbidden)
        await expect_error(reader.send_to_group("g", "x", content_type="text/plain"), **forbidden)
        await expect_error(reader.grant_permission("sendToGroup", ann.id), **forbidden)
        await expect_error(reader.close_connection(ann.id), **forbidden)
        await expect_error(reader.get_client_access_token(user_id="x"), **forbidden)

        # Whose issuer nobody trusts.
        stranger = service_with(os.environ["STRANGER_TOKEN"])
        unauthorized = {"kind": ClientAuthenticationError, "status": 401, "code": "Error.Unauthorized"}
        await expect_error(stranger.send_to_all("x", content_type="text/plain"), **unauthorized)
        await expect_error(stranger.get_client_access_token(user_id="x"), **unauthorized)
        await expect_error(stranger.user_exists("ann"), ClientAuthenticationError, status=401, code=None)

        # Access keys are switched off, here and for connections.
        await expect_error(service().send_to_all("x", content_type="text/plain"), **forbidden)
        try:
            await connect("ann", reliable=reliable, comes_back=False)
            raise AssertionError("a token signed with the access key let a client in")
        except OpenClientError as error:
            assert "401" in str(error), error

        # None of those has sent anything.
        await owner.send_to_all("the end", content_type="text/plain")
        await ann.expect_next(text("the end"))
        await owner.close_connection(ann.id)

        async def ann_is_gone():
            return not await owner.user_exists("ann")

        await until("ann is gone", ann_is_gone)


run(scenario)
