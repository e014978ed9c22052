"""Every way to send, every kind of content, and who gets it: exclusions and filters."""

import io

from harness import BOTH, connect, expect_error, expect_receivers, group_message, group_text, run, server_message, text

# Content, content type, data type and data as a client sees them.
CONTENTS = [
    ({"a": 1, "b": [None, "ä"]}, "application/json", "json", {"a": 1, "b": [None, "ä"]}),
    ("a string is JSON by default", "application/json", "json", "a string is JSON by default"),
    (0.5, "application/json", "json", 0.5),
    ([], "application/json", "json", []),
    # Encoded here: given a string, the SDK announces its characters as the body's bytes and cuts the body.
    ("plain ä 🎈".encode(), "text/plain", "text", "plain ä 🎈"),
    ("plain", "text/plain", "text", "plain"),
    (bytes([0, 255]), "application/octet-stream", "binary", [0, 255]),
    (io.BytesIO(b"ab"), "application/octet-stream", "binary", [97, 98]),
]

# Filters and who gets what is sent to the whole hub with them.
FILTERS = [
    ("userId eq 'ann'", ["ann"]),
    ("userId ne 'ann'", ["bob", "nobody"]),
    ("userId eq null", ["nobody"]),
    ("'red' in groups", ["ann", "bob"]),
    ("'red' in groups and not('blue' in groups)", ["ann"]),
    ("length(groups) gt 1", ["bob"]),
    ("startswith(userId, 'b') or userId in ('ann', 'x')", ["ann", "bob"]),
    ("true", ["ann", "bob", "nobody"]),
    ("false", []),
]
PLAIN = {"content_type": "text/plain"}


async def scenario():
    peers = {
        "ann": await connect("ann", groups=["red"], reliable=False),
        "bob": await connect("bob", groups=["red", "blue"]),
        "nobody": await connect(reliable=False),
    }
    ann, bob, nobody = peers.values()
    for kind, make in BOTH:
        print(kind)
        hub = make()
        for content, content_type, data_type, data in CONTENTS:
            typed = {"content_type": content_type}
            message = server_message(data_type, data)

            def again():
                # A stream is read once.
                return io.BytesIO(content.getvalue()) if isinstance(content, io.BytesIO) else content

            await hub.send_to_all(again(), **typed)
            for peer in peers.values():
                await peer.expect_next(message)
            await hub.send_to_group("blue", again(), **typed)
            await bob.expect_next(group_message("blue", None, data_type, data))
            await hub.send_to_user("ann", again(), **typed)
            await ann.expect_next(message)
            await hub.send_to_connection(nobody.id, again(), **typed)
            await nobody.expect_next(message)
        # JSON is the default.
        await hub.send_to_all({"b": 2})
        await expect_receivers(peers, ["ann", "bob", "nobody"], server_message("json", {"b": 2}))

        for filter, receivers in FILTERS:
            await hub.send_to_all("x", filter=filter, **PLAIN)
            await expect_receivers(peers, receivers, text("x"))
            await hub.send_to_group("red", "x", filter=filter, **PLAIN)
            await expect_receivers(peers, [name for name in receivers if name != "nobody"], group_text("red", "x"))
            await hub.send_to_user("bob", "x", filter=filter, **PLAIN)
            await expect_receivers(peers, [name for name in receivers if name == "bob"], text("x"))

        await hub.send_to_all("x", excluded=[ann.id, nobody.id, "unknown"], **PLAIN)
        await expect_receivers(peers, ["bob"], text("x"))
        await hub.send_to_group("red", "x", excluded=[bob.id], **PLAIN)
        await expect_receivers(peers, ["ann"], group_text("red", "x"))
        await hub.send_to_group("red", "x", excluded=[ann.id], filter="'blue' in groups", **PLAIN)
        await expect_receivers(peers, ["bob"], group_text("red", "x"))

        # The released client knows no metadata and is not disturbed by it.
        await hub.send_to_all("x", headers={"X-WebPubSub-Metadata-A": "1"}, **PLAIN)
        await expect_receivers(peers, ["ann", "bob", "nobody"], text("x"))

        # Sends to nobody are accepted.
        await hub.send_to_user("unknown", "x")
        await hub.send_to_connection("unknown", "x")
        await hub.send_to_group("unknown", "x")

        for filter in ["not length(userId)", "userId eq", "userId", "nonsense(1)", "'unended", "(" * 200 + "true" + ")" * 200]:
            await expect_error(hub.send_to_all("x", filter=filter), target="filter")
            await expect_error(hub.send_to_user("ann", "x", filter=filter), target="filter")
            await expect_error(hub.send_to_group("red", "x", filter=filter), target="filter")
        await expect_error(hub.send_to_user(" ", "x"), target="userId")
        await expect_error(hub.send_to_all("x" * (1 << 20)))
        await expect_receivers(peers, [], None)


run(scenario)
