"""Two clients: connect, join, publish in three types, noEcho, acks, refusals, leave."""

from harness import BINARY, JSON, TEXT, connect, expect_refused, group_message, run

PAYLOADS = [
    (JSON, {"a": [1, "ä"], "b": None}, {"a": [1, "ä"], "b": None}),
    (TEXT, 'tëxt "quoted"\n', 'tëxt "quoted"\n'),
    (TEXT, "", ""),
    (BINARY, memoryview(bytes([0, 1, 254, 255])), [0, 1, 254, 255]),
]


async def scenario():
    for reliable in (True, False):
        alice = await connect("alice", reliable=reliable)
        bob = await connect("bob", reliable=reliable)
        assert alice.id != bob.id
        await alice.client.join_group("g")
        await bob.client.join_group("g")

        for data_type, sent, data in PAYLOADS:
            await alice.client.send_to_group("g", sent, data_type)
            message = group_message("g", "alice", data_type.value, data)
            await alice.expect_next(message)
            await bob.expect_next(message)

        await alice.client.send_to_group("g", "not to me", TEXT, no_echo=True)
        await alice.client.send_to_group("g", "fire", TEXT, ack=False)
        await bob.expect_next(group_message("g", "alice", "text", "not to me"))
        await bob.expect_next(group_message("g", "alice", "text", "fire"))
        await alice.expect_next(group_message("g", "alice", "text", "fire"))

        # The same ack id again is done already; the SDK takes Duplicate for success.
        for _ in range(2):
            await alice.client.send_to_group("g", "once", TEXT, ack_id=4711, no_echo=True)
        await bob.expect_next(group_message("g", "alice", "text", "once"))

        await bob.client.leave_group("g")
        await alice.client.send_to_group("g", "bob has left", TEXT)
        await alice.expect_next(group_message("g", "alice", "text", "bob has left"))
        bob.expect_nothing()

        nobody = await connect("nobody", roles=[], reliable=reliable)
        await expect_refused(nobody.client.join_group("g"), "Forbidden")
        await expect_refused(nobody.client.send_to_group("g", "x", TEXT), "Forbidden")
        await expect_refused(nobody.client.send_event("e", "x", TEXT), "InternalServerError")

        roles = ["webpubsub.sendToGroups.team-*", "webpubsub.joinLeaveGroup.team-1"]
        some = await connect("some", roles=roles, reliable=reliable)
        await some.client.join_group("team-1")
        await some.client.send_to_group("team-1", "hi", TEXT)
        await some.expect_next(group_message("team-1", "some", "text", "hi"))
        await expect_refused(some.client.join_group("team-2"), "Forbidden")
        await expect_refused(some.client.send_to_group("g", "x", TEXT), "Forbidden")
        alice.expect_nothing()

        for peer in (alice, bob, nobody, some):
            await peer.client.close()


run(scenario)
