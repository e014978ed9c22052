"""Closing from the service: whose connections end, what they are told, and whether they are gone."""

from harness import BOTH, connect, run, until


async def scenario():
    for kind, make in BOTH:
        hub = make()
        for reliable in (True, False):
            print(kind, reliable)

            async def client(user=None, groups=None):
                return await connect(user, groups=groups, reliable=reliable, comes_back=False)

            async def gone(peer, reason=None):
                await until(f"{peer.user_id} is told", lambda: peer.disconnected)
                told = peer.disconnected[0].message
                assert told == reason if reason else told, told
                assert not await hub.connection_exists(peer.id)

            async def stays(peer):
                assert await hub.connection_exists(peer.id)
                assert not peer.disconnected

            one = await client("ann")
            two = await client("ann", ["red"])
            three = await client("ann", ["red"])
            four = await client("bob", ["red"])
            assert await hub.user_exists("ann")
            assert not await hub.user_exists("unknown")
            assert not await hub.connection_exists("unknown")

            await hub.close_connection(one.id, reason="one ä")
            await gone(one, "one ä")
            await hub.close_connection(one.id)
            await hub.close_user_connections("ann", reason="two", excluded=[three.id])
            await gone(two, "two")
            await stays(three)
            await hub.close_group_connections("red", reason="three", excluded=[four.id, "unknown"])
            await gone(three, "three")
            await stays(four)
            assert not await hub.user_exists("ann")
            await hub.close_all_connections(excluded=[four.id])
            await stays(four)
            five = await client()
            await hub.close_all_connections(reason="all")
            await gone(four, "all")
            await gone(five, "all")
            six = await client("bob", ["red"])
            await hub.close_group_connections("red")
            await gone(six)
            assert not await hub.group_exists("red")
            await hub.close_user_connections("unknown")
            await hub.close_group_connections("unknown")
            await hub.close_all_connections()


run(scenario)
