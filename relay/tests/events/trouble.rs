//! Handlers that fail in every way there is (`event-handlers` §5).

use ringhub_hub::event::Reply;
use ringhub_relay::report::{EventClass, Outcome};
use ringhub_relay::upstream::{Upstream, UpstreamSettings};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::handler::{Action, Handler, answer, status};
use crate::support::world::{Client, World, settings};

/// The thread was gone without a word, and cores with it once nobody took what they asked. The test starts itself
/// once more, as the process that is to end.
#[test]
fn a_panic_of_the_side_thread_ends_the_process() {
    const CHILD: &str = "RINGHUB_TEST_SIDE_THREAD_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let world = World::start();
        let client = Client::new(&Upstream::new(settings("http://127.0.0.1:1/")).unwrap());
        // No memory of the relay's.
        client.caller.memory.set(Arc::new(())).unwrap();
        // No answer: the process ends.
        world.call(client.user("a", ""));
        return;
    }
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "trouble::a_panic_of_the_side_thread_ends_the_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.signal().is_some(), "{:?}: {said}", ended.status);
    assert!(said.contains("ringhub: the side thread panicked"), "{said}");
}

/// How often user events ended so.
fn count(upstream: &Upstream, outcome: Outcome) -> u64 {
    upstream.report().events[EventClass::User as usize][outcome as usize]
}

/// Fails so often, by `fail`, and answers 204 then.
fn failing(times: usize, fail: impl Fn() -> Action + Send + Sync + 'static) -> Handler {
    let asked = AtomicUsize::new(0);
    Handler::start(move |_| if asked.fetch_add(1, Ordering::Relaxed) < times { fail() } else { status(204) })
}

#[test]
fn what_may_pass_is_tried_again_as_the_same_event() {
    let world = World::start();
    let broken = || Action::AnswerAndClose(b"HTTP/1.1 200 X\r\nContent-Le".to_vec());
    let fails: [fn() -> Action; 6] = [
        || status(408),
        || status(500),
        || status(503),
        || status(599),
        || Action::Reset,
        || Action::AnswerAndClose(Vec::new()),
    ];
    for fail in fails.into_iter().chain([broken as fn() -> Action]) {
        let handler = failing(3, fail);
        let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
        let client = Client::new(&upstream);
        assert_eq!(world.call(client.user("a", "body")), Reply::Answered(None));
        let posts = handler.posts();
        assert_eq!(posts.len(), 4);
        for name in ["ce-id", "x-ms-client-request-id", "ce-time", "ce-signature"] {
            assert!(posts.iter().all(|post| post.header(name) == posts[0].header(name)), "{name}");
        }
        assert!(posts.iter().all(|post| post.body == b"body"));
        for (pair, delay) in posts.windows(2).zip([10, 20, 30]) {
            assert!(pair[1].at - pair[0].at >= Duration::from_millis(delay));
        }
        let report = upstream.report();
        assert_eq!((report.attempts, report.retries, count(&upstream, Outcome::Success)), (4, 3, 1));
    }
}

#[test]
fn after_the_last_attempt_it_has_failed() {
    let handler = failing(4, || status(503));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    assert_eq!(world.call(client.user("a", "")), Reply::Failed(503));
    assert_eq!(handler.posts().len(), 4);
    let call = &upstream.report().calls[0];
    assert_eq!((call.attempts, call.status, call.outcome), (4, Some(503), Outcome::ServerError));
    assert_eq!(call.cause, "the handler answered 503");
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    let world = World::start();
    for (code, reply, outcome) in [
        (400, 400, Outcome::ClientError),
        (401, 401, Outcome::ClientError),
        (404, 404, Outcome::ClientError),
        (429, 429, Outcome::ClientError),
        (499, 499, Outcome::ClientError),
        (301, 502, Outcome::Invalid),
        (307, 502, Outcome::Invalid),
        (700, 502, Outcome::Invalid),
    ] {
        let handler = Handler::start(move |_| answer(code, "Location: /elsewhere\r\n", ""));
        let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(reply), "{code}");
        assert_eq!(handler.requests().len(), 1, "{code}");
        assert_eq!(count(&upstream, outcome), 1, "{code}");
    }
}

#[test]
fn nonsense_is_not_tried_again() {
    let world = World::start();
    for nonsense in [
        &b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"HTTP/1.1 abc X\r\n\r\n",
        b"HTTP/1.1 200 X\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let handler = Handler::start(move |_| Action::AnswerAndClose(nonsense.to_vec()));
        let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
        assert_eq!(handler.posts().len(), 1, "{:?}", String::from_utf8_lossy(nonsense));
        assert_eq!(count(&upstream, Outcome::Invalid), 1, "{:?}", upstream.report().calls);
    }
}

#[test]
fn a_slow_handler_is_given_up_in_time_and_not_tried_again() {
    let world = World::start();
    let fails: [fn() -> Action; 3] = [
        || Action::Hang,
        // Half a head, and half a body, and then nothing.
        || Action::Answer(b"HTTP/1.1 200 X\r\n".to_vec()),
        || Action::Answer(b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n12345".to_vec()),
    ];
    for fail in fails {
        let handler = Handler::start(move |_| fail());
        let timeout = Duration::from_millis(500);
        let upstream = Upstream::new(UpstreamSettings { timeout, ..settings(&handler.url("/")) }).unwrap();
        let begin = Instant::now();
        assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(504));
        assert!(begin.elapsed() >= timeout);
        // Its connection is not kept either.
        handler.wait_for_posts(1);
        handler.wait_for_no_connection();
        assert_eq!((handler.posts().len(), count(&upstream, Outcome::Timeout)), (1, 1));
    }
}

#[test]
fn the_deadline_is_over_all_attempts_and_connect_has_its_own() {
    let handler = Handler::start(|_| status(500));
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        connect_timeout: Duration::from_millis(300),
        retry_delays: vec![Duration::from_millis(200); 5],
        ..settings(&handler.url("/"))
    })
    .unwrap();
    let begin = Instant::now();
    assert_eq!(world.call(Client::new(&upstream).connect()), Reply::Failed(504));
    assert!(begin.elapsed() < Duration::from_millis(900));
    assert_eq!(handler.posts().len(), 2);
}

#[test]
fn a_handler_that_is_not_there_and_comes_back_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = World::start();
    let url = format!("http://{address}/");
    let upstream = Upstream::new(settings(&url)).unwrap();
    assert_eq!(world.call(Client::new(&upstream).user("a", "")), Reply::Failed(502));
    let call = &upstream.report().calls[0];
    assert_eq!((call.attempts, call.status, call.outcome), (4, None, Outcome::Unreachable));
    assert!(call.cause.contains("refused"), "{}", call.cause);

    let patient =
        Upstream::new(UpstreamSettings { retry_delays: vec![Duration::from_secs(1)], ..settings(&url) })
            .unwrap();
    let ticket = world.ask(Client::new(&patient).user("a", ""));
    let handler = Handler::start_at(TcpListener::bind(address).unwrap(), |_| status(204));
    assert_eq!(world.reply(ticket), Reply::Answered(None));
    assert_eq!(handler.posts().len(), 1);
}

#[test]
fn an_answer_may_have_16_mib_and_no_byte_more() {
    const MAX: usize = 16 * 1024 * 1024;
    let head = "HTTP/1.1 200 X\r\nContent-Type: text/plain\r\n";
    let handler = Handler::start(move |request| {
        let size = if request.body.starts_with(b"more") { MAX + 1 } else { MAX };
        if request.body.ends_with(b"chunked") {
            let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n").into_bytes();
            bytes.resize(bytes.len() + size, b'x');
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            Action::AnswerAndClose(bytes)
        } else {
            let mut bytes = format!("{head}Content-Length: {size}\r\n\r\n").into_bytes();
            bytes.resize(bytes.len() + size, b'x');
            Action::AnswerAndClose(bytes)
        }
    });
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    for (body, expected) in [("fits", true), ("fits chunked", true), ("more", false), ("more chunked", false)]
    {
        match world.call(client.user("a", body)) {
            Reply::Answered(Some(message)) => assert!(expected && message.bytes.len() == MAX, "{body}"),
            reply => assert!(!expected && reply == Reply::Failed(502), "{body}: {reply:?}"),
        }
    }
    assert_eq!(count(&upstream, Outcome::TooLarge), 2);
    assert_eq!(handler.posts().len(), 4);
}

#[test]
fn a_cancelled_question_is_answered_and_its_request_ended() {
    let handler = Handler::start(|_| Action::Hang);
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let ticket = world.ask(Client::new(&upstream).user("a", ""));
    handler.wait_for_posts(1);
    world.cancel(ticket);
    assert_eq!(world.reply(ticket), Reply::Failed(499));
    handler.wait_for_no_connection();
    assert_eq!(count(&upstream, Outcome::Cancelled), 1);
    // Once more, and one that never was: nobody minds.
    world.cancel(ticket);
    world.cancel(world.ticket());
    assert_eq!(upstream.report().in_flight, 0);
}

/// Every end that there is, at once: a reply for each question and no second one.
#[test]
fn there_is_exactly_one_reply_for_each_question() {
    let asked = AtomicUsize::new(0);
    let handler = Handler::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) % 7 {
        0 => status(204),
        1 => status(500),
        2 => Action::Reset,
        3 => Action::AnswerAndClose(b"what?\r\n\r\n".to_vec()),
        4 => Action::AnswerAndClose(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n1".to_vec()),
        5 => answer(200, "Content-Type: text/plain\r\n", "hi"),
        _ => Action::Hang,
    });
    let mut world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        timeout: Duration::from_millis(500),
        concurrency_max: 8,
        queue_max: 100,
        ..settings(&handler.url("/"))
    })
    .unwrap();
    let clients: Vec<Client> = (0..200).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.user("a", "x"))).collect();
    for ticket in tickets.iter().step_by(5) {
        world.cancel(*ticket);
    }
    for ticket in tickets {
        world.reply(ticket);
    }
    let events = upstream.report().events[EventClass::User as usize];
    assert_eq!(events.iter().sum::<u64>(), 200, "{events:?}");
    world.stop(Duration::from_secs(5));
    assert_eq!(world.left_answers(), 0);
    let report = upstream.report();
    assert_eq!((report.in_flight, report.queued, report.queued_bytes), (0, 0, 0));
}

/// A client may leave in the middle of anything; what it leaves behind is nothing.
#[test]
fn a_thousand_connects_against_a_dead_handler_leave_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let world = World::start();
    let upstream = Upstream::new(UpstreamSettings {
        breaker_failures: 10,
        validate: true,
        ..settings(&format!("http://{address}/"))
    })
    .unwrap();
    let clients: Vec<Client> = (0..1000).map(|_| Client::new(&upstream)).collect();
    let tickets: Vec<_> = clients.iter().map(|client| world.ask(client.connect())).collect();
    for ticket in tickets {
        assert!(matches!(world.reply(ticket), Reply::Failed(502 | 503)));
    }
    let report = upstream.report();
    assert_eq!((report.in_flight, report.queued, report.queued_bytes), (0, 0, 0));
    let connect = report.events[EventClass::Connect as usize];
    assert_eq!(connect.iter().sum::<u64>(), 1000);
    assert!(connect[Outcome::Unreachable as usize] >= 10, "{connect:?}");
}

#[test]
fn a_reply_comes_for_what_no_handler_is_named_for() {
    let world = World::start();
    let handler = Handler::start(|_| status(204));
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    let mut event = client.user("a", "");
    event.handler = None;
    assert_eq!(world.call(event), Reply::Failed(500));
    let mut event = client.user("a", "");
    event.handler = Some(Arc::new("something else"));
    assert_eq!(world.call(event), Reply::Failed(500));
    // And nothing of it holds up what comes then.
    assert_eq!(world.call(client.user("a", "")), Reply::Answered(None));
}

/// The handler may have heard it, so it is an attempt like any other, and there is none if none is to be.
#[test]
fn a_kept_connection_that_ends_under_a_request_is_a_failed_attempt() {
    for end in [|| Action::Reset, || Action::AnswerAndClose(Vec::new())] as [fn() -> Action; 2] {
        let handler = Handler::start(move |request| if request.body == b"end" { end() } else { status(204) });
        let world = World::start();
        let upstream =
            Upstream::new(UpstreamSettings { retry_delays: Vec::new(), ..settings(&handler.url("/")) })
                .unwrap();
        let client = Client::new(&upstream);
        assert_eq!(world.call(client.user("a", "")), Reply::Answered(None));
        assert_eq!(world.call(client.user("a", "end")), Reply::Failed(502));
        assert_eq!((handler.posts().len(), handler.connections()), (2, 1));
    }
}

/// Connections that die idle are not noticed by events.
#[test]
fn a_connection_that_was_closed_while_idle_costs_no_attempt() {
    let handler = Handler::start(|_| Action::AnswerAndClose(b"HTTP/1.1 204 X\r\n\r\n".to_vec()));
    let world = World::start();
    let upstream = Upstream::new(settings(&handler.url("/"))).unwrap();
    let client = Client::new(&upstream);
    for _ in 0..10 {
        assert_eq!(world.call(client.user("a", "")), Reply::Answered(None));
        handler.wait_for_no_connection();
        // The end of the connection is on its way to the relay, over loopback.
        thread::yield_now();
    }
    let report = upstream.report();
    assert_eq!(report.events[EventClass::User as usize][Outcome::Success as usize], 10);
}
