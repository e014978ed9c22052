//! A thousand clients and a handler that is gone: it is their loss and nobody else's.

use std::thread;

use ringhub_tests::{
    Answer, Client, Connection, Endpoint, Gate, Handler, RawSocket, Server, dead_address, memory_bound,
    wait_until,
};

use super::{ALL, NO_RETRIES};

/// How many come at a time, of two such crowds: few systems let a test have more sockets.
const CROWD: usize = 500;

#[test]
fn a_thousand_connects_against_a_dead_handler_are_refused_and_leave_nothing() {
    let server = serve(&format!(
        "[[hubs.chat.event_handlers]]\nurl_template = \"http://{}/\"\nvalidate = false\nretry_delays_seconds = [2]\n\
         breaker_failures = 0\n{ALL}",
        dead_address()
    ));
    leaves_nothing(server, |endpoint, elsewhere| {
        thread::scope(|scope| {
            let crowd = scope.spawn(|| expect_refused(come(endpoint)));
            while !crowd.is_finished() {
                exchange(endpoint, elsewhere);
            }
        });
    });
}

/// The worse kind of dead: it takes connections and says nothing, until it goes.
#[test]
fn a_thousand_connects_against_a_silent_handler_are_refused_and_leave_nothing() {
    let gate = Gate::default();
    let waited = gate.clone();
    let handler = Handler::start(move |_| {
        waited.pass();
        Answer::reset()
    });
    let keys = format!("{ALL}{NO_RETRIES}validate = false\nconcurrency_max = 32\nbreaker_failures = 0\n");
    let mut server = serve(&handler.section(&keys));
    let queued = |server: &Server| server.metric("ringhub_upstream_queued");
    let mut elsewhere = talker(&server);
    let crowd = come(&server);
    wait_until("all of them wait", || queued(&server) >= (CROWD - 32) as u64);
    // As if nothing were.
    for _ in 0..20 {
        exchange(&server, &mut elsewhere);
    }
    assert_eq!(handler.calls().len(), 32);
    gate.open();
    expect_refused(crowd);
    drop(elsewhere);
    wait_until("its connections are closed", || handler.connections_open() == 0);
    server = leaves_nothing(server, |endpoint, _| expect_refused(come(endpoint)));
    assert!(queued(&server) == 0);
}

fn serve(section: &str) -> Server {
    Server::with(|setup| setup.cores(2).config(section))
}

/// Two crowds come and go as told; descriptors and memory are as after the first of them.
fn leaves_nothing(mut server: Server, mut come_and_go: impl FnMut(&Endpoint, &mut Connection)) -> Server {
    let mut elsewhere = talker(&server);
    // What the first of everything allocates is no leak.
    come_and_go(&server, &mut elsewhere);
    wait_until("the first crowd is gone", || server.metric("ringhub_upstream_queued") == 0);
    let (files, memory) = (server.process().open_files(), server.process().resident_bytes());
    come_and_go(&server, &mut elsewhere);
    wait_until("descriptors are given back", || server.process().open_files() <= files + 2);
    let grown = server.process().resident_bytes().saturating_sub(memory);
    assert!(grown < memory_bound(16 << 20), "{grown} bytes more are held");
    server
}

/// Somebody of another hub.
fn talker(server: &Server) -> Connection {
    server.connect(Client::json().hub("other").group("g").may_all())
}

/// Another hub's clients and callers are served.
fn exchange(endpoint: &Endpoint, elsewhere: &mut Connection) {
    elsewhere.publish("g", "x");
    elsewhere.expect_group_text("g", None, "x");
    endpoint.rest("POST", "/api/hubs/other/:send").text("y").expect(202);
    elsewhere.expect_server_text("y");
}

fn come(endpoint: &Endpoint) -> Vec<RawSocket> {
    let client = |_| {
        let mut socket = endpoint.raw();
        socket.write(Client::json().request(endpoint));
        socket
    };
    (0..CROWD).map(client).collect()
}

fn expect_refused(crowd: Vec<RawSocket>) {
    for mut socket in crowd {
        assert_eq!(socket.read_response().status, 500);
    }
}
