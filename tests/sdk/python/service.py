"""The service client: sends to all, group, user and connection, closes, exists checks, membership, tokens."""

from azure.core.exceptions import ResourceNotFoundError
from harness import connect, group_message, run, server_message, service, until

# Content, content type, data type and data as a client sees them.
PAYLOADS = [
    ({"a": 1}, "application/json", "json", {"a": 1}),
    # Encoded here: given a string, the SDK announces its characters as the body's bytes and cuts the body.
    ("plain ä".encode(), "text/plain", "text", "plain ä"),
    (bytes([0, 255]), "application/octet-stream", "binary", [0, 255]),
]
USER, GROUP = "user/ä 1", "grp.α/1"


async def scenario():
    hub = service()
    for reliable in (True, False):
        alice = await connect(USER, groups=[GROUP], reliable=reliable)
        bob = await connect("bob", reliable=reliable)

        for content, content_type, data_type, data in PAYLOADS:
            message = server_message(data_type, data)
            await hub.send_to_all(content, content_type=content_type)
            await alice.expect_next(message)
            await bob.expect_next(message)
            await hub.send_to_all(content, content_type=content_type, excluded=[bob.id])
            await alice.expect_next(message)
            await hub.send_to_group(GROUP, content, content_type=content_type)
            await alice.expect_next(group_message(GROUP, None, data_type, data))
            await hub.send_to_user(USER, content, content_type=content_type)
            await alice.expect_next(message)
            await hub.send_to_connection(alice.id, content, content_type=content_type)
            await alice.expect_next(message)
        bob.expect_nothing()

        assert await hub.connection_exists(alice.id)
        assert await hub.user_exists(USER)
        assert await hub.group_exists(GROUP)
        assert not await hub.connection_exists("nobody")
        assert not await hub.user_exists("nobody")
        assert not await hub.group_exists("nobody")

        await hub.add_connection_to_group("late", bob.id)
        await hub.send_to_group("late", "1", content_type="text/plain")
        await bob.expect_next(group_message("late", None, "text", "1"))
        await hub.remove_connection_from_group("late", bob.id)
        await hub.add_user_to_group("late", USER)
        await hub.send_to_group("late", "2", content_type="text/plain")
        await alice.expect_next(group_message("late", None, "text", "2"))
        await hub.remove_user_from_group("late", USER)
        assert not await hub.group_exists("late")
        await hub.add_connection_to_group("late", bob.id)
        await hub.remove_connection_from_all_groups(bob.id)
        await hub.add_user_to_group("late", "bob")
        await hub.remove_user_from_all_groups("bob")
        assert not await hub.group_exists("late")
        try:
            await hub.add_connection_to_group("late", "nobody")
            raise AssertionError("a connection that is not there was added")
        except ResourceNotFoundError:
            pass
        bob.expect_nothing()

        token = await hub.get_client_access_token(
            user_id="u", roles=["webpubsub.sendToGroup.g"], groups=["g"], minutes_to_expire=5, jwt_headers={"kid": "1"}
        )
        assert token["token"] in token["url"]

        # Closed clients come back by themselves; the reason is the application's to see.
        await hub.close_connection(alice.id, reason="because")
        await until("alice is told", lambda: alice.disconnected)
        assert alice.disconnected[0].message == "because", alice.disconnected[0].message
        await until("alice is back", lambda: len(alice.connected) == 2)
        assert alice.connected[1].connection_id != alice.id
        assert not await hub.connection_exists(alice.id)

        await alice.client.close()
        await bob.client.close()
        await hub.close_user_connections("bob")
        await hub.close_group_connections(GROUP)
        await hub.close_all_connections()

        async def gone():
            return not await hub.user_exists("bob")

        await until("all are gone", gone)


run(scenario)
