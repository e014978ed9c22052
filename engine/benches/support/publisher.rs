//! One client with many roles that publishes to groups nobody is in: what remains is the permission check and
//! the way of a request through the hub.

use ringhub_hub::effect::Connect;
use ringhub_hub::{CoreId, Effect, Effects, Hub, Input, Limits, SocketKey, Time, Transport};
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{ClientMessage, Data, Subprotocol};

/// The client and its hub.
pub(crate) struct Publisher {
    hub: Hub,
    effects: Effects,
    transport: Transport,
}

/// The roles by which it may publish.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Grant {
    /// To all groups.
    All,
    /// To each of 1,000 groups by name: the most a connection can have.
    Literals,
    /// By ten patterns, the most a connection can have; [`GROUP`] matches the last.
    Patterns,
}

const GROUP: &str = "room-999.members";

impl Publisher {
    pub(crate) fn new(grant: Grant) -> Self {
        let roles: Vec<String> = match grant {
            Grant::All => vec!["webpubsub.sendToGroup".into()],
            Grant::Literals => {
                (0..1000).map(|n| format!("webpubsub.sendToGroup.room-{n:03}.members")).collect()
            }
            Grant::Patterns => (0..10).map(|n| format!("webpubsub.sendToGroups.room-{n}*.*")).collect(),
        };
        let name = HubName::parse("bench").expect("a legal name");
        let mut hub = Hub::new(name, CoreId(0), 1, 1, Limits::default(), Box::new(|_| "token".into()));
        let mut effects = Effects::new();
        let connect = Connect {
            socket: SocketKey { slot: 0, generation: 1 },
            subprotocol: Subprotocol::Json,
            random: 1,
            prologue: Vec::new(),
            user: None,
            roles: roles.into_iter().map(Into::into).collect(),
            groups: Vec::new(),
            raw_group: None,
            arrival: Default::default(),
            introduction: None,
            deflate: None,
        };
        hub.handle(Time(0), Input::Connect(Box::new(connect)), &mut effects);
        let opened = effects.drain(..).find_map(|effect| match effect {
            Effect::Opened(transport) => Some(transport),
            _ => None,
        });
        Self { hub, effects, transport: opened.expect("nobody else has to agree") }
    }

    /// Publishes once; true if the client was allowed to.
    pub(crate) fn publish(&mut self) -> bool {
        let refused = self.hub.counters().forbidden;
        let message = ClientMessage::SendToGroup {
            group: GroupName::parse(GROUP).expect("a legal name"),
            ack_id: None,
            no_echo: false,
            data: Data::text("hello"),
            metadata: None,
            ttl_seconds: 0,
        };
        self.hub.handle(Time(0), Input::Message(self.transport, message), &mut self.effects);
        self.effects.clear();
        self.hub.counters().forbidden == refused
    }
}
