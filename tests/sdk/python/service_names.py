"""Names of users and groups with characters that URLs, filters and JSON treat specially."""

from harness import BOTH, connect, expect_refused, group_text, list_members, run, text, until

NAMES = [
    "two words",
    "a/b",
    "50%",
    "a%2Fb",
    "a+b",
    "it's",
    "''",
    '"quoted" \\ back',
    "grüße",
    "日本語",
    "🎈",
    "?a=b&c#d",
    ":send",
    "[a](b),{c};*",
]
PLAIN = {"content_type": "text/plain"}


def quoted(name):
    return "'" + name.replace("'", "''") + "'"


async def scenario():
    other = await connect("other", groups=["other"], reliable=False)
    hubs = [make() for _, make in BOTH]
    for at, name in enumerate(NAMES):
        peer = await connect(name, groups=[name], roles=[f"webpubsub.joinLeaveGroup.{name}"], reliable=at % 2 == 1, comes_back=False)
        for hub in hubs:
            assert await hub.user_exists(name), name
            assert await hub.group_exists(name), name
            await hub.send_to_user(name, "user", **PLAIN)
            await peer.expect_next(text("user"))
            await hub.send_to_group(name, "group", **PLAIN)
            await peer.expect_next(group_text(name, "group"))
            await hub.send_to_all("user filter", filter=f"userId eq {quoted(name)}", **PLAIN)
            await peer.expect_next(text("user filter"))
            await hub.send_to_all("group filter", filter=f"{quoted(name)} in groups", **PLAIN)
            await peer.expect_next(text("group filter"))
            await hub.send_to_group(name, "not", excluded=[peer.id], **PLAIN)
            await hub.send_to_group(name, "not", filter=f"not (userId in ({quoted(name)}, 'x'))", **PLAIN)
            assert await list_members(hub, group=name) == [(peer.id, name)]

            await expect_refused(peer.client.send_to_group(name, "x", data_type="text"), "Forbidden")
            await hub.grant_permission("sendToGroup", peer.id, target_name=name)
            assert await hub.has_permission("sendToGroup", peer.id, target_name=name)
            await peer.client.send_to_group(name, "own", data_type="text")
            await peer.expect_next(group_text(name, "own", name))
            await hub.revoke_permission("sendToGroup", peer.id, target_name=name)
            assert not await hub.has_permission("sendToGroup", peer.id, target_name=name)

            await hub.remove_connection_from_group(name, peer.id)
            assert not await hub.group_exists(name)
            await hub.add_connection_to_group(name, peer.id)
            await hub.remove_user_from_group(name, name)
            assert not await hub.group_exists(name)
            await hub.add_user_to_group(name, name)
            await hub.remove_user_from_all_groups(name)
            await hub.add_user_to_group(name, name)
        await hubs[0].close_user_connections(name, reason=name)
        await until("it is told", lambda: peer.disconnected)
        assert peer.disconnected[0].message == name
    await hubs[0].send_to_all("end", **PLAIN)
    await other.expect_next(text("end"))
    other.expect_nothing()


run(scenario)
