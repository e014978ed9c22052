"""What a connection may do, granted and revoked while it is connected, as the service and the client see it."""

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from harness import BOTH, connect, expect_error, expect_refused, group_text, run


async def scenario():
    for kind, make in BOTH:
        print(kind)
        hub = make()
        peer = await connect("ann", roles=[], reliable=kind == "async")
        client = peer.client

        async def may(permission, group, expected):
            found = await hub.has_permission(permission, peer.id, target_name=group)
            assert found == expected, (permission, group, found)

        async def join(group):
            await client.join_group(group)

        async def send(group):
            await client.send_to_group(group, "x", data_type="text", no_echo=True)

        for permission, act in [("joinLeaveGroup", join), ("sendToGroup", send)]:
            await may(permission, "g", False)
            await may(permission, None, False)
            await expect_refused(act("g"), "Forbidden")
            await hub.grant_permission(permission, peer.id, target_name="g")
            await may(permission, "g", True)
            await may(permission, "G", False)
            await may(permission, None, False)
            await act("g")
            await expect_refused(act("h"), "Forbidden")
            await hub.revoke_permission(permission, peer.id, target_name="g")
            await may(permission, "g", False)
            await expect_refused(act("g"), "Forbidden")

            await hub.grant_permission(permission, peer.id)
            await may(permission, None, True)
            await act("h")
            await hub.revoke_permission(permission, peer.id, target_name="h")
            await may(permission, "h", False)
            await expect_refused(act("h"), "Forbidden")
            await act("i")
            await hub.revoke_permission(permission, peer.id)
            await may(permission, None, False)
            await expect_refused(act("i"), "Forbidden")
        # What was joined stays joined, though it may not even be left.
        await hub.send_to_group("g", "still here", content_type="text/plain")
        await peer.expect_next(group_text("g", "still here"))
        await expect_refused(client.leave_group("g"), "Forbidden")

        # The Rust side has set the limit to 20.
        for n in range(20):
            await hub.grant_permission("joinLeaveGroup", peer.id, target_name=f"g{n}")
        one_more = hub.grant_permission("joinLeaveGroup", peer.id, target_name="one more")
        await expect_error(one_more, kind=ResourceExistsError, status=409, code="Error.Conflict")

        missing = {"kind": ResourceNotFoundError, "status": 404, "code": "Error.NotFound"}
        for permission in ["joinLeaveGroup", "sendToGroup"]:
            for group in [None, "g"]:
                await expect_error(hub.grant_permission(permission, "unknown", target_name=group), **missing)
                await hub.revoke_permission(permission, "unknown", target_name=group)
                assert not await hub.has_permission(permission, "unknown", target_name=group)
        # A permission that is none has no path.
        await expect_error(hub.grant_permission("fly", peer.id), **missing)


run(scenario)
