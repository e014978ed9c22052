//! What applications call by REST.

use super::{World, name};
use ringhub_hub::{Input, RequestId};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::Data;
use ringhub_protocol::rest::{Filter, Operation, Target};

impl World {
    /// A filter for every other send: as clients know it ([`Client::is_chosen`]), and as it is written.
    fn filter(&mut self) -> (String, String) {
        let (group, client) = (self.random.below(self.setup.groups), self.random.below(self.setup.clients));
        let id = self.clients[client].id.map_or_else(|| "nobody".into(), |id| id.to_string());
        let (chosen, filter) = match self.random.below(12) {
            0 => ("user".into(), "userId eq 'u'".into()),
            1 => ("nouser".into(), "userId ne 'u' and true".into()),
            2 => ("raw".into(), "protocol eq null".into()),
            3 => (format!("not:{id}"), format!("connectionId ne '{id}'")),
            4 => (format!("only:{id}"), format!("connectionId in ('nobody', '{id}')")),
            5 => (format!("in:{group}"), format!("'g{group}' in groups")),
            _ => ("all".into(), String::new()),
        };
        (chosen, filter)
    }

    /// One REST send or question, on any core, if the last one was answered.
    pub(super) fn call(&mut self, hub: usize) {
        let core = self.random.below(self.setup.cores);
        if self.callers[hub].busy.is_some() || !self.admits(core) {
            return;
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.callers[hub].busy = Some(request);
        let group = self.random.below(self.setup.groups);
        let target = match self.random.below(4) {
            0 => Target::All,
            1 => Target::User(UserId::parse("u").unwrap()),
            _ => Target::Group(name(group)),
        };
        if self.random.below(4) == 0 && target != Target::All {
            return self.feed(core, hub, Input::Operation(request, &Operation::Exists { target }, None));
        }
        self.callers[hub].sent += 1;
        let (number, publisher) = (self.callers[hub].sent, 1_000_000 + hub);
        let (ttl_seconds, until) = self.ttl();
        let (chosen, filter) = self.filter();
        let text = match &target {
            Target::Group(_) => format!("h{hub} g{group} p{publisher} {number} t{until} {chosen}"),
            _ => format!("h{hub} - p{publisher} {number} t{until} {chosen}"),
        };
        match &target {
            _ if ttl_seconds > 0 => {}
            Target::All => self.owe(hub, None, publisher, number, None, &chosen),
            Target::Group(_) => self.owe(hub, Some(group), publisher, number, None, &chosen),
            _ => {}
        }
        let filter = Filter::parse(&filter).unwrap();
        let send = Operation::Send { target, excluded: Box::default(), filter, ttl_seconds };
        self.feed(core, hub, Input::Operation(request, &send, Some(Data::text(&text).into())));
    }
}
