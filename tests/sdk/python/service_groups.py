"""Who is in which group, changed by the service: one connection or one user. (Python has no bulk changes.)"""

from azure.core.exceptions import ResourceNotFoundError
from harness import BOTH, connect, expect_error, expect_receivers, group_text, run


async def scenario():
    peers = {
        "ann": await connect("ann"),
        "ann2": await connect("ann", reliable=False),
        "bob": await connect("bob", reliable=False),
    }
    ann, _, bob = peers.values()
    for kind, make in BOTH:
        print(kind)
        hub = make()

        async def members(group, expected):
            await hub.send_to_group(group, "x", content_type="text/plain")
            await expect_receivers(peers, expected, group_text(group, "x"))
            assert await hub.group_exists(group) == bool(expected)

        await hub.add_connection_to_group("one", ann.id)
        await hub.add_connection_to_group("one", ann.id)
        await members("one", ["ann"])
        await hub.add_user_to_group("one", "ann")
        await members("one", ["ann", "ann2"])
        await hub.remove_connection_from_group("one", ann.id)
        await hub.remove_connection_from_group("one", ann.id)
        await members("one", ["ann2"])
        await hub.remove_user_from_group("one", "ann")
        await members("one", [])

        for group in ["a", "b"]:
            await hub.add_user_to_group(group, "ann")
            await hub.add_connection_to_group(group, bob.id)
        await hub.remove_connection_from_all_groups(ann.id)
        await members("a", ["ann2", "bob"])
        await members("b", ["ann2", "bob"])
        await hub.remove_user_from_all_groups("ann")
        await members("a", ["bob"])
        await members("b", ["bob"])
        await hub.remove_user_from_all_groups("bob")
        await members("a", [])

        # Nobody there: adding says so, removing is done already.
        missing = {"kind": ResourceNotFoundError, "status": 404, "code": "Error.NotFound"}
        await expect_error(hub.add_connection_to_group("one", "unknown"), **missing)
        await expect_error(hub.add_user_to_group("one", "unknown"), **missing)
        await hub.remove_connection_from_group("one", "unknown")
        await hub.remove_user_from_group("one", "unknown")
        await hub.remove_connection_from_all_groups("unknown")
        await hub.remove_user_from_all_groups("unknown")


run(scenario)
