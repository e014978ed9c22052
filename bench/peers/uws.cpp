// The smallest fair uWebSockets server for `ringhub-bench compare`: on `/` the first message `S`
// subscribes and is answered `OK`, `P...` publishes the rest to all; any other path is a room of its own, but
// `/echo`, which echoes.
//
// One thread, epoll, no TLS, no compression: what uWebSockets is fastest at. Built by run.sh when
// UWS_DIR names a source tree; nothing of uWebSockets is part of this repository.
//
// usage: uws-server [PORT]     (0 or none: any free port; the address is printed)

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "App.h"

namespace {

struct Client {
    std::string room;
};

template <typename Handler> uWS::App::WebSocketBehavior<Client> behavior(Handler on_message) {
    uWS::App::WebSocketBehavior<Client> behavior{};
    behavior.upgrade = [](auto *response, auto *request, auto *context) {
        response->template upgrade<Client>(
            Client{std::string(request->getUrl())}, request->getHeader("sec-websocket-key"),
            request->getHeader("sec-websocket-protocol"), request->getHeader("sec-websocket-extensions"), context);
    };
    behavior.compression = uWS::DISABLED;
    behavior.maxPayloadLength = 1024 * 1024;
    // As much as a slow reader of ringhub may have unsent; beyond it uWebSockets drops messages.
    behavior.maxBackpressure = 1024 * 1024;
    // The longest there is: while slower servers are measured, pings wait longer for their pongs than the
    // eight seconds uWebSockets allows.
    behavior.idleTimeout = 960;
    behavior.message = on_message;
    return behavior;
}

} // namespace

int main(int argc, char **argv) {
    const int port = argc > 1 ? std::atoi(argv[1]) : 0;
    uWS::App app;
    app.ws<Client>("/echo", behavior([](auto *ws, std::string_view message, uWS::OpCode code) {
        ws->send(message, code);
    }));
    app.ws<Client>("/*", behavior([&app](auto *ws, std::string_view message, uWS::OpCode code) {
        if (message == "S") {
            ws->subscribe(ws->getUserData()->room);
            ws->send("OK", uWS::OpCode::TEXT);
        } else if (message.starts_with('P')) {
            app.publish(ws->getUserData()->room, message.substr(1), code);
        } else {
            ws->end(1008, "S or P...");
        }
    }));
    bool listening = false;
    app.listen("127.0.0.1", port, [&listening](us_listen_socket_t *socket) {
        if (socket) {
            listening = true;
            std::printf("listening on ws://127.0.0.1:%d\n", us_socket_local_port(0, (us_socket_t *)socket));
            std::fflush(stdout);
        }
    });
    if (!listening) {
        std::fprintf(stderr, "uws-server: port %d cannot be had\n", port);
        return 1;
    }
    app.run();
}
