//! The released SDKs, unmodified, on one and two cores (`tests/sdk`).

use std::sync::Barrier;
use std::thread;

use ringhub_tests::{Client, Endpoint, Issuer, Proxy, Script, Server, Setup};

use crate::oidc::wait_for;

mod express;

type Language = fn(&str) -> Script;

const LANGUAGES: [(Language, &str); 2] = [(Script::node, "mjs"), (Script::python, "py")];

/// Apart from everything the server does: the packages install on this machine and load.
#[test]
fn the_packages_install_and_load() {
    Script::node("harness.mjs").run();
    Script::python("harness.py").run();
}

#[test]
fn clients_join_publish_and_are_refused() {
    everywhere("clients", |server, script| script.endpoint(server).run());
}

/// The same clients over TLS, trusting the certificate by what is in their environment.
#[test]
fn the_javascript_and_python_clients_speak_tls() {
    everywhere_with(|setup| setup.tls(), "clients", |server, script| script.endpoint(server).run());
}

/// The endpoint and a token credential in place of a connection string; nothing is left that an access key opens.
#[test]
fn token_credentials_work_over_tls() {
    let (issuer, unknown) = (Issuer::start(), Issuer::start());
    let config = format!("[server]\naccess_keys = false\n{}", issuer.section(""));
    everywhere_with(
        |setup| setup.tls().config(&config),
        "token_credential",
        |server, script| {
            let owner = issuer.token("owner");
            wait_for(server, &owner, 202);
            script
                .endpoint(server)
                .env("OWNER_TOKEN", &owner)
                .env("READER_TOKEN", &issuer.token("reader"))
                .env("STRANGER_TOKEN", &unknown.token("owner"))
                .run();
        },
    );
}

/// With the right key and with a wrong one.
#[test]
fn every_method_of_the_service_client_is_served_and_refused() {
    everywhere("service_methods", |server, script| script.endpoint(server).run());
}

#[test]
fn the_service_sends_every_content_to_whom_it_means() {
    everywhere("service_sends", |server, script| script.endpoint(server).run());
}

#[test]
fn the_service_puts_connections_into_groups() {
    everywhere("service_groups", |server, script| script.endpoint(server).run());
}

#[test]
fn the_service_closes_connections_and_says_why() {
    everywhere("service_closes", |server, script| script.endpoint(server).run());
}

#[test]
fn the_service_grants_and_revokes_permissions() {
    // A thousand rules, as many as there are by default, would take each of the SDKs a while.
    let few_rules = |setup: Setup| setup.config("[limits]\npermission_literals_max = 20\n");
    everywhere_with(few_rules, "service_permissions", |server, script| script.endpoint(server).run());
}

/// Space, slash, percent, plus, quotes, emoji: in paths, filters, exclusions, and permissions.
#[test]
fn the_service_names_users_and_groups_with_any_characters() {
    everywhere("service_names", |server, script| script.endpoint(server).run());
}

#[test]
fn the_service_lists_450_members() {
    everywhere("service_lists", |server, script| {
        let client = |n: usize| match n % 3 {
            0 => Client::json(),
            1 => Client::raw().user("ü/1"),
            _ => Client::reliable().user(&format!("u-{n}")),
        };
        let _members: Vec<_> = (0..450).map(|n| server.open(client(n).group("many"))).collect();
        script.endpoint(server).run();
    });
}

/// The JavaScript SDK with a protobuf protocol of its own, written against the schema and not against the server.
#[test]
fn the_protobuf_client_and_the_server_agree_on_bytes() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/vectors/protobuf");
    Script::node("protobuf-vectors.mjs").env("VECTORS", vectors).run();
}

/// Protobuf clients of both kinds, JSON clients and the service SDK: who publishes what, everybody gets.
#[test]
fn protobuf_clients_speak_with_everyone() {
    for cores in [1, 2] {
        Script::node("protobuf.mjs").endpoint(&Server::on_cores(cores)).run();
    }
}

/// The socket is cut again and again while messages flow, at bytes the script chooses.
#[test]
fn a_cut_socket_loses_and_doubles_nothing() {
    everywhere("recovery", |server, script| {
        let proxy = Proxy::start(server);
        let direct = server.connection_string();
        script.endpoint(&proxy.endpoint()).env("DIRECT_CONNECTION_STRING", &direct).run_with(|ask| match ask
            .split_once(' ')
        {
            Some(("cut-after", bytes)) => proxy.cut_after_bytes(bytes.parse().expect("a number of bytes")),
            _ if ask == "cut" => proxy.cut(),
            _ => panic!("nobody answers {ask:?}"),
        });
        assert!(proxy.cuts() >= 5, "the script cuts");
    });
}

/// The server is replaced by a fresh one that knows no sessions.
#[test]
fn a_refused_recovery_becomes_a_new_connection_that_rejoins() {
    everywhere("rejoin", |server, script| {
        let proxy = Proxy::start(server);
        let fresh = Server::start();
        script.endpoint(&proxy.endpoint()).run_with(|ask| {
            assert_eq!(ask, "replace the server");
            proxy.point_at(&fresh);
            proxy.cut();
        });
    });
}

/// A rolling restart: the next server is there, and this one closes its clients, sessions and all.
#[test]
fn a_drained_server_hands_its_clients_to_the_next() {
    let window = |setup: Setup| setup.config("[server]\ndrain_seconds = 5\n");
    everywhere_with(window, "rejoin", |server, script| {
        let proxy = Proxy::start(server);
        let fresh = Server::start();
        script.endpoint(&proxy.endpoint()).run_with(|ask| {
            assert_eq!(ask, "replace the server");
            proxy.point_at(&fresh);
            server.admin().http("POST", "/drain").expect(202);
        });
    });
}

/// JavaScript and Python clients hear each other and both service SDKs.
#[test]
fn the_languages_talk_to_each_other() {
    for cores in [1, 2] {
        let server = Server::on_cores(cores);
        let endpoint: &Endpoint = &server;
        let barrier = Barrier::new(2);
        let meet = |ask: &str| {
            assert_eq!(ask, "meet");
            barrier.wait();
        };
        thread::scope(|scope| {
            let node = scope.spawn(|| Script::node("talk.mjs").endpoint(endpoint).run_with(meet));
            let python = scope.spawn(|| Script::python("talk.py").endpoint(endpoint).run_with(meet));
            node.join().expect("the JavaScript side");
            python.join().expect("the Python side");
        });
    }
}

fn everywhere(scenario: &str, run: impl Fn(&Server, Script)) {
    everywhere_with(|setup| setup, scenario, run);
}

fn everywhere_with(set_up: impl Fn(Setup) -> Setup, scenario: &str, run: impl Fn(&Server, Script)) {
    for (language, extension) in LANGUAGES {
        for cores in [1, 2] {
            println!("{scenario}.{extension} on {cores} cores");
            run(
                &Server::with(|setup| set_up(setup.cores(cores))),
                language(&format!("{scenario}.{extension}")),
            );
        }
    }
}
