//! What an event costs the relay's thread: so many connections, each with one user event in flight, against a handler
//! in this process that answers at once. The handler and the asking core run on threads of their own; what is printed
//! is the CPU time of the relay's thread alone, and the rate.
//!
//! `cargo bench -p ringhub-relay --bench events -- [CONNECTIONS [SECONDS [h1|h2]]]`
#![allow(missing_docs)]

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ringhub_hub::event::{Caller, Event, EventSubject, Reply};
use ringhub_hub::{ConnectionId, CoreId, Ticket};
use ringhub_protocol::events::UrlTemplate;
use ringhub_protocol::name::{HubName, UserId};
use ringhub_protocol::pubsub::DataType;
use ringhub_relay::exchange::{Ask, Exchange};
use ringhub_relay::upstream::{HandlerAuth, HttpVersion, Upstream, UpstreamSettings};
use ringhub_relay::{Relay, Settings, Signer};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let connections: u64 = arguments.next().map_or(100, |n| n.parse().expect("a number"));
    let seconds: u64 = arguments.next().map_or(5, |n| n.parse().expect("a number"));
    let http = match arguments.next().as_deref() {
        None | Some("h1") => HttpVersion::Http1,
        Some("h2") => HttpVersion::Http2,
        Some(other) => panic!("neither h1 nor h2: {other}"),
    };
    let address = start_handler(http);
    let upstream = Upstream::new(UpstreamSettings {
        hub: HubName::parse("chat").expect("legal"),
        place: 0,
        template: UrlTemplate::parse(&format!("http://{address}/eventhandler/{{event}}"), &mut |_| {
            unreachable!("there is no secret in it")
        })
        .expect("legal"),
        auth: HandlerAuth::None,
        validate: true,
        http,
        timeout: Duration::from_secs(100),
        connect_timeout: Duration::from_secs(30),
        retry_delays: [1, 3, 5].map(Duration::from_secs).into(),
        answer_bytes_max: 16 << 20,
        concurrency_max: connections as usize,
        queue_max: 10_000,
        queue_bytes_max: 64 << 20,
        breaker_failures: 10,
        ca_file: None,
        forward_refusals: true,
        inspect_bodies: false,
    })
    .expect("it can be used");
    let exchange = Arc::new(Exchange::new(1));
    let core = thread::current();
    exchange.set_bell(Box::new(move |_| core.unpark()));
    let signer = Signer::new(&["primary", "secondary"]);
    let relay = Relay::start(Settings { issuers: Vec::new(), exchange: exchange.clone(), signer })
        .expect("it starts");

    let clients: Vec<Arc<Caller>> = (0..connections).map(caller).collect();
    let ask = |at: u64| Ask::Event(0, Box::new(event(&clients[at as usize], &upstream, Ticket(at))));
    exchange.ask(CORE, (0..connections).map(ask).collect()).expect("there is room");
    let round = |until: Instant| {
        let mut done = 0_u64;
        let mut batch = Vec::new();
        while Instant::now() < until {
            let kept = batch.len();
            while let Some(answer) = exchange.next_answer(CORE) {
                assert!(matches!(answer.reply, Reply::Answered(Some(_))), "{:?}", answer.reply);
                batch.push(ask(answer.ticket.0));
            }
            done += (batch.len() - kept) as u64;
            batch =
                if batch.is_empty() { batch } else { exchange.ask(CORE, batch).err().unwrap_or_default() };
            thread::park_timeout(Duration::from_millis(1));
        }
        while !batch.is_empty() {
            batch = exchange.ask(CORE, batch).err().unwrap_or_default();
            thread::yield_now();
        }
        done
    };
    round(Instant::now() + Duration::from_secs(1));
    let (cpu, begin) = (relay_cpu(), Instant::now());
    let done = round(begin + Duration::from_secs(seconds));
    let (cpu, time) = (relay_cpu() - cpu, begin.elapsed());
    println!(
        "{connections} connections, {http:?}: {:.0} events a second, {:.2} µs of the relay's thread each ({:.0} % busy)",
        done as f64 / time.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / done as f64,
        cpu.as_secs_f64() / time.as_secs_f64() * 100.0,
    );
    relay.stop(Duration::from_secs(1));
    relay.join();
    println!("{} events in all", upstream.report().events[3][0]);
}

const CORE: CoreId = CoreId(0);

fn caller(n: u64) -> Arc<Caller> {
    Arc::new(Caller {
        hub: HubName::parse("chat").expect("legal"),
        id: ConnectionId { node: 0, core: CORE, slot: n as u32, random: u128::from(n) << 64 },
        origin: "pubsub.example.com".into(),
        memory: OnceLock::new(),
    })
}

fn event(caller: &Arc<Caller>, upstream: &Arc<Upstream>, ticket: Ticket) -> Event {
    Event {
        caller: caller.clone(),
        user: UserId::parse("user-1234").ok(),
        subprotocol: Some("json.webpubsub.azure.v1".into()),
        subject: EventSubject::User("echo".into()),
        data_type: DataType::Text,
        body: Bytes::from_static(&[b'x'; 64]),
        metadata: None,
        handler: Some(upstream.clone()),
        listeners: Vec::new(),
        ticket: Some(ticket),
    }
}

/// Time on a CPU of the thread with the relay's name.
fn relay_cpu() -> Duration {
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.trim_end() == "ringhub-relay" {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).expect("Linux");
            let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number");
            return Duration::from_nanos(ns);
        }
    }
    panic!("there is no such thread");
}

/// On a thread of its own: hyper over TCP, with the smallest answer that has a body.
fn start_handler(http: HttpVersion) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("nonblocking");
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let mut answer = Response::new(Full::new(Bytes::from_static(&[b'x'; 64])));
                    if request.method() == hyper::Method::OPTIONS {
                        *answer.body_mut() = Full::default();
                        answer.headers_mut().insert("webhook-allowed-origin", "*".parse().expect("legal"));
                    }
                    answer.headers_mut().insert("content-type", "text/plain".parse().expect("legal"));
                    drop(request.into_body());
                    Ok::<_, Infallible>(answer)
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    let _ = match http {
                        HttpVersion::Http2 => {
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service)
                                .await
                        }
                        _ => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                    };
                });
            }
        });
    });
    address
}
