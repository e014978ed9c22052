//! A thousand clients and a handler that is gone: it is their loss and nobody else's.

use std::thread;

use ringhub_tests::{Answer, Client, Endpoint, Handler, Server, dead_address, wait_until};

use super::{ALL, NO_RETRIES};

#[test]
fn a_thousand_connects_against_a_dead_handler_are_refused_and_leave_nothing() {
    let dead = format!(
        "[[hubs.chat.event_handlers]]\nurl_template = \"http://{}/\"\nvalidate = false\nretry_delays_seconds = [1]\n\
         breaker_failures = 0\n{ALL}",
        dead_address()
    );
    crowd(&dead);
}

/// The worse kind of dead: it takes connections and says nothing.
#[test]
fn a_thousand_connects_against_a_silent_handler_are_refused_and_leave_nothing() {
    let handler = Handler::start(|_| Answer::never());
    let keys =
        format!("{ALL}{NO_RETRIES}validate = false\nconcurrency_max = 32\nconnect_timeout_seconds = 2\n");
    crowd(&handler.section(&keys));
    assert_eq!(handler.connections_open(), 0);
}

fn crowd(section: &str) {
    // Half of them at a time: few systems let a test have more sockets.
    const CLIENTS: usize = 500;
    let mut server = Server::with(|setup| setup.cores(2).config(section));
    // Warm: what the first of everything allocates is no leak.
    refused(&server, 20);
    let mut elsewhere = server.connect(Client::json().hub("other").group("g").may_all());
    let (files, memory) = (server.process().open_files(), server.process().resident_bytes());
    let mut rounds = 0;
    thread::scope(|scope| {
        let endpoint: &Endpoint = &server;
        let crowd = scope.spawn(|| (0..2).for_each(|_| refused(endpoint, CLIENTS)));
        while !crowd.is_finished() {
            elsewhere.publish("g", "x");
            elsewhere.expect_group_text("g", None, "x");
            server.rest("POST", "/api/hubs/other/:send").text("y").expect(202);
            elsewhere.expect_server_text("y");
            rounds += 1;
        }
    });
    // The crowd waits for seconds, twice. Who waited for the handler too would not get far in that time.
    assert!(rounds >= 10, "another hub went {rounds} rounds");
    wait_until("descriptors are given back", || server.process().open_files() <= files + 2);
    let grown = server.process().resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes more are held");
}

/// So many clients at the same time; all are told 500 and no other thing.
fn refused(endpoint: &Endpoint, clients: usize) {
    let sockets: Vec<_> = (0..clients)
        .map(|_| {
            let mut socket = endpoint.raw();
            socket.write(Client::json().request(endpoint));
            socket
        })
        .collect();
    for mut socket in sockets {
        assert_eq!(socket.read_response().status, 500);
    }
}
