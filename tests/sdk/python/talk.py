"""The Python half of a conversation with JavaScript (talk.mjs): clients and service SDKs of both."""

from harness import BINARY, JSON, TEXT, ask, connect, group_message, run, service, until

EACH = 20


async def scenario():
    numbers = list(range(EACH))
    hub = service()
    peer = await connect("python")
    await peer.client.join_group("talk")
    await ask("meet")

    for n in numbers:
        await peer.client.send_to_group("talk", {"n": n}, JSON)
        await hub.send_to_all({"service": "python", "n": n})
    await until("all have come", lambda: len(peer.messages) >= 4 * EACH)

    for language in ("js", "python"):
        heard = [message["data"]["n"] for message in peer.messages if message.get("from") == language]
        assert heard == numbers, (language, heard)
        heard = [message["data"]["n"] for message in peer.messages if message["data"].get("service") == language]
        assert heard == numbers, ("service", language, heard)
    assert len(peer.messages) == 4 * EACH

    # Bytes and text cross the languages unchanged; each answers the other's backwards.
    peer.messages.clear()
    await ask("meet")
    await until("JavaScript's two messages", lambda: len(peer.messages) >= 2)
    assert peer.messages == [
        group_message("talk", "js", "binary", [0, 128, 255]),
        group_message("talk", "js", "text", 'ä\u0001"\U0001f600'),
    ], peer.messages
    await peer.client.send_to_group("talk", memoryview(bytes([255, 128, 0])), BINARY, no_echo=True)
    await peer.client.send_to_group("talk", '\U0001f600"\u0001ä', TEXT, no_echo=True)
    await ask("meet")


run(scenario)
