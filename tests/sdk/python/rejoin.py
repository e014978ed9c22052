"""The session is gone: recovery is refused, the SDK opens a new connection and rejoins its groups."""

from harness import ask, connect, group_message, run, service, until


async def scenario():
    client = await connect("u")
    for group in ("a", "b", "left"):
        await client.client.join_group(group)
    await client.client.leave_group("left")
    ids = [client.id]

    async def came_back(times):
        await until("a new connection", lambda: len(client.connected) == times)
        connection_id = client.connected[-1].connection_id
        assert connection_id not in ids, "a new connection, not the old one"
        ids.append(connection_id)
        hub = service()

        async def rejoined():
            return await hub.group_exists("a") and await hub.group_exists("b")

        await until("it has rejoined", rejoined)
        for group in ("a", "b"):
            await hub.send_to_group(group, group, content_type="text/plain")
            await client.expect_next(group_message(group, None, "text", group))
        assert not await hub.group_exists("left")
        client.expect_nothing()

    # The session is closed by the service.
    await service().close_connection(client.id, reason="closed by the test")
    await came_back(2)
    assert client.disconnected[0].message == "closed by the test", client.disconnected[0].message
    assert not await service().connection_exists(ids[0])

    # The server itself is gone, and the one in its place knows nothing.
    await ask("replace the server")
    await came_back(3)
    assert len(client.disconnected) == 2


run(scenario)
