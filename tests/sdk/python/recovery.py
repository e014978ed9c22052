"""A reliable client behind a proxy that cuts its socket while messages flow: each arrives once, each sender's in
order, on the same connection, and the application never hears of it."""

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
            # Both ways into the group. A 202 says that all cores have it, an ack that the sender's next comes behind it.
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

    assert receiver.messages.pop()["data"] == "end"
    received = [int(message["data"]) for message in receiver.messages]
    every = list(range(1, sent + 1))
    assert sorted(received) == every, received
    by_service = [n for n in received if n % 10 == 0]
    by_client = [n for n in received if n % 10 != 0]
    assert by_service == sorted(by_service) and by_client == sorted(by_client), received
    assert all(received.index(n) < received.index(n + 1) for n in by_service if n < sent), received
    assert len(receiver.connected) == 1, "recovered, not connected anew"
    assert not receiver.disconnected
    # And it can still talk.
    await receiver.client.join_group("h")


run(scenario)
