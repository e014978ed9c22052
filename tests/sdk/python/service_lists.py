"""Lists of members, page by page. The Rust side has put 450 connections into "many", with and without users."""

import asyncio

from harness import BOTH, SyncService, connect, expect_error, list_members, run

COUNT = 450


async def pages(hub, **options):
    """The pages that a list has, each as connection ids."""
    if isinstance(hub, SyncService):
        read = lambda: [[member.connection_id for member in page] for page in hub.client.list_connections(**options).by_page()]
        return await asyncio.to_thread(read)
    return [
        [member.connection_id async for member in page] async for page in hub.list_connections(**options).by_page()
    ]


async def scenario():
    single = await connect("ann", groups=["single"])
    for kind, make in BOTH:
        print(kind)
        hub = make()
        members = await list_members(hub, group="many")
        ids = [connection_id for connection_id, _ in members]
        assert len(ids) == COUNT and ids == sorted(set(ids)), "each once, in order"
        users = [user for _, user in members]
        assert users.count(None) == users.count("ü/1") == COUNT // 3

        for top in [1, 199, 200, 201, 450, 1000]:
            found = await list_members(hub, group="many", top=top)
            assert [connection_id for connection_id, _ in found] == ids[:top], top
        for size in [7, 199, 200]:
            found = await pages(hub, group="many", maxpagesize=size)
            assert sum(found, []) == ids
            assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1), size
        assert [len(page) for page in await pages(hub, group="many")] == [200, 200, 50]
        assert [len(page) for page in await pages(hub, group="many", top=201, maxpagesize=150)] == [150, 51]

        assert await list_members(hub, group="none") == []
        assert await list_members(hub, group="single") == [(single.id, "ann")]
        for options, target in [
            ({"continuation_token_parameter": "x"}, "continuationToken"),
            ({"continuation_token_parameter": ""}, "continuationToken"),
            ({"maxpagesize": 201}, "maxpagesize"),
        ]:
            await expect_error(list_members(hub, group="many", **options), target=target)


run(scenario)
