//! The event handler of webhook workloads, as a server meets it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

struct Handler {
    child: Child,
    port: u16,
}

impl Handler {
    fn start(http: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringhub-bench"))
            .args(["webhook-handler", "--http", http])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In one piece, in many, and larger than any buffer in between.
#[test]
fn events_come_back_over_http_1_1() {
    let handler = Handler::start("1.1");
    let mut socket = handler.connect();
    for (size, piece) in [(0, 1 << 20), (3, 7), (5_000_000, 1 << 20)] {
        let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let head = format!(
            "POST /message HTTP/1.1\r\nhost: a\r\nce-type: azure.webpubsub.user.message\r\n\
             content-type: application/octet-stream\r\ncontent-length: {size}\r\n\r\n"
        );
        let request = [head.as_bytes(), &body].concat();
        let mut writing = socket.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            for piece in request.chunks(piece) {
                writing.write_all(piece).unwrap();
            }
        });
        let expected = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        );
        let mut answer = vec![0; expected.len() + size];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer[..expected.len()]), expected);
        assert!(answer[expected.len()..] == body, "{size} bytes come back");
        writer.join().unwrap();
    }
}

#[test]
fn what_is_no_request_is_hung_up_on_and_the_next_one_served() {
    let handler = Handler::start("1.1");
    let mut socket = handler.connect();
    socket.write_all(b"nonsense\0\r\n\r\n").unwrap();
    assert_eq!(socket.read(&mut [0; 100]).unwrap_or(0), 0);
    let mut socket = handler.connect();
    socket.write_all(b"OPTIONS / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut start = [0; 15];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
}

#[test]
fn events_come_back_over_http_2() {
    let handler = Handler::start("2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let socket = handler.connect();
        socket.set_nonblocking(true).unwrap();
        let socket = TokioIo::new(tokio::net::TcpStream::from_std(socket).unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        let ask = |method: Method, kind: &str, body: &Bytes| {
            let request = Request::builder()
                .method(method)
                .uri("http://a/message")
                .header("ce-type", kind)
                .header("content-type", "text/plain; charset=utf-8")
                .body(Full::new(body.clone()));
            let mut sender = sender.clone();
            async move {
                let (head, body) = sender.send_request(request.unwrap()).await.unwrap().into_parts();
                (head.status, head.headers, body.collect().await.unwrap().to_bytes())
            }
        };
        for size in [0, 3, 300_000] {
            let body = Bytes::from(vec![b'x'; size]);
            let (status, headers, back) = ask(Method::POST, "azure.webpubsub.user.message", &body).await;
            assert_eq!(
                (status, headers["content-type"].as_bytes()),
                (StatusCode::OK, &b"text/plain; charset=utf-8"[..])
            );
            assert!(back == body, "{size} bytes come back");
        }
        let (status, _, back) =
            ask(Method::POST, "azure.webpubsub.sys.connected", &Bytes::from_static(b"{}")).await;
        assert_eq!((status, back), (StatusCode::NO_CONTENT, Bytes::new()));
        let (status, headers, _) = ask(Method::OPTIONS, "", &Bytes::new()).await;
        assert_eq!((status, headers["webhook-allowed-origin"].as_bytes()), (StatusCode::OK, &b"*"[..]));
    });
}
