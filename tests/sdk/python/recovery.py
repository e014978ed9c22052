"""A reliable client behind a proxy that cuts its socket while messages flow: each arrives once, in order,
on the same connection, and the application never hears of it."""

import os

from harness import TEXT, ask, connect, run, service, until

CUT_AFTER_BYTES = [0, 1, 130, 777, 2500, 5000]
EACH = 50


async def scenario():
    direct = service(os.environ["DIRECT_CONNECTION_STRING"])
    sender = await connect("sender", through=direct)
    receiver = await connect("receiver", groups=["g"])
    sent = 0

    async def burst():
        nonlocal sent
        for _ in range(EACH):
            sent += 1
            # Both ways into the group, one after the other: the ack and the 202 give the order.
            if sent % 10 == 0:
                await direct.send_to_group("g", str(sent), content_type="text/plain")
            else:
                await sender.client.send_to_group("g", str(sent), TEXT)
        await until(f"message {sent}", lambda: len(receiver.messages) >= sent)

    for size in CUT_AFTER_BYTES:
        await ask(f"cut-after {size}")
        await burst()
    # A cut while nothing flows, noticed by the client first.
    await ask("cut")
    await burst()
    # A goodbye that comes after everything else.
    await direct.send_to_connection(receiver.id, "end", content_type="text/plain")
    await until("the end", lambda: len(receiver.messages) > sent)

    texts = [message["data"] for message in receiver.messages]
    assert texts == [str(n + 1) for n in range(sent)] + ["end"], texts
    assert len(receiver.connected) == 1, "recovered, not connected anew"
    assert not receiver.disconnected
    # And it can still talk.
    await receiver.client.join_group("h")


run(scenario)
