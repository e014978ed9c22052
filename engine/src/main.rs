//! The server. (The command line lands with the cold side; this one starts an echo listener.)

pub mod core;
pub mod net;

use crate::core::counters::CoreShared;
use crate::core::settings::{Settings, SocketSettings};
use crate::core::{Mode, start};
use ringhub_hub::{ConnectionId, CoreId};
use ringhub_protocol::name::HubName;
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::ws::DecoderLimits;
use std::sync::Arc;

struct Open;

impl net::gate::Gate for Open {
    fn admit(&self, _: u64, request: &net::gate::UpgradeRequest<'_>) -> net::gate::Admission {
        let (subprotocol, echoed) = ringhub_protocol::ws::handshake::choose(request.subprotocols);
        if let Some((_, id)) = request.target.split_once("awps_connection_id=") {
            let id = ConnectionId::parse(&id[..32]).expect("a test sends a good one");
            let hub = HubName::parse("chat").expect("legal");
            return net::gate::Admission::Recover { hub, id, echoed: echoed.map(Into::into) };
        }
        let raw = ringhub_protocol::name::GroupName::parse("g").expect("legal");
        net::gate::Admission::Connect(Box::new(net::gate::Admitted {
            hub: HubName::parse("chat").expect("legal"),
            subprotocol,
            echoed: echoed.map(Into::into),
            user: None,
            roles: vec!["webpubsub.joinLeaveGroup".into(), "webpubsub.sendToGroup".into()],
            groups: vec![],
            raw_group: (subprotocol == Subprotocol::Raw).then_some((raw, false)),
        }))
    }

    fn reconnection_token(&self, _: &HubName, id: &ConnectionId) -> String {
        id.text().as_str().to_owned()
    }
}

struct Nothing;

impl net::HttpFactory for Nothing {
    fn open(&self, _: CoreId, _: net::Listener) -> Box<dyn net::HttpHandler> {
        Box::new(NotFound { fed: false, said: false })
    }
}

struct NotFound {
    fed: bool,
    said: bool,
}

impl net::HttpHandler for NotFound {
    fn feed(&mut self, _: &[u8]) {
        self.fed = true;
    }
    fn poll(&mut self, _: u64) -> net::HttpProgress {
        let mut progress = net::HttpProgress::default();
        if self.fed && !self.said {
            self.said = true;
            let mut out = Vec::new();
            ringhub_protocol::http::write_refusal(&mut out, 404, &[], "text/plain", b"");
            progress.output = out.into();
            progress.close = true;
        }
        progress
    }
    fn answer(&mut self, _: net::HttpAnswer) {}
    fn is_full(&self) -> bool {
        self.said
    }
    fn is_busy(&self) -> bool {
        false
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let echo = args.get(1).is_some_and(|verb| verb == "echo");
    let listen = args.get(3).map_or("127.0.0.1:9001", String::as_str).parse().expect("an address");
    let cores = args.get(4).map_or(1, |cores| cores.parse().expect("a number"));
    let mut sockets = SocketSettings::default();
    if echo {
        sockets.decoder = DecoderLimits { message_bytes_max: 16 << 20, fragments_max: 1 << 20 };
        sockets.outbox_bytes_max = 64 << 20;
    }
    let settings =
        Settings { listen: vec![listen], admin_listen: vec![], cores, sockets, ..Settings::default() };
    let shared: Vec<_> = (0..cores).map(|_| Arc::new(CoreShared::default())).collect();
    let mode = if echo { Mode::Echo } else { Mode::Serve };
    let server = match start(settings, mode, Arc::new(Open), Arc::new(Nothing), &shared) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("ringhub: {error}");
            std::process::exit(1);
        }
    };
    println!("echo on ws://{}", server.service[0]);
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM]).expect("signals");
    signals.forever().next();
    server.stop();
    server.join();
    for (core, shared) in shared.iter().enumerate() {
        for (name, _, _, value) in shared.counters.rows() {
            if value > 0 {
                println!("core {core} {name} {value}");
            }
        }
    }
}
