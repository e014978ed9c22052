//! What applications call by REST.

use super::acts::pad;
use super::changes::Doing;
use super::{World, name};
use ringhub_hub::{Input, RequestId};
use ringhub_protocol::name::UserId;
use ringhub_protocol::pubsub::Data;
use ringhub_protocol::rest::{Filter, Operation, Target};

impl World {
    /// A filter for every other send: as clients know it ([`Client::is_chosen`]), and as it is written.
    pub(super) fn filter(&mut self) -> (String, String) {
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

    /// One REST call, if the last one was answered.
    pub(super) fn call(&mut self, hub: usize) {
        if self.callers[hub].busy.is_some() {
            return;
        }
        // At the end everybody is to hear something.
        if !self.calm && self.random.below(3) == 0 {
            return self.change(hub);
        }
        let group = self.random.below(self.setup.groups);
        let target = match self.random.below(4) {
            0 => Target::All,
            1 => Target::User(UserId::parse("u").unwrap()),
            _ => Target::Group(name(group)),
        };
        if self.random.below(4) == 0 && target != Target::All {
            return self.request(hub, &Operation::Exists { target }, Doing::Nothing);
        }
        self.callers[hub].sent += 1;
        let (number, publisher) = (self.callers[hub].sent, 1_000_000 + hub);
        let (ttl_seconds, until) = self.ttl();
        let (chosen, filter) = self.filter();
        let of = if let Target::Group(_) = target { format!("g{group}") } else { "-".into() };
        let text = format!("h{hub} {of} p{publisher} {number} t{until} {chosen}");
        let text = pad(text, number, self.padding_len());
        match &target {
            _ if ttl_seconds > 0 => {}
            Target::All => self.owe(hub, None, publisher, number, None, &chosen),
            Target::Group(_) => self.owe(hub, Some(group), publisher, number, None, &chosen),
            _ => {}
        }
        let filter = Filter::parse(&filter).unwrap();
        let send = Operation::Send { target, excluded: Box::default(), filter, ttl_seconds };
        self.request_with(hub, &send, Some(&text), Doing::Nothing);
    }

    /// Calls a core that admits it, whichever.
    pub(super) fn request(&mut self, hub: usize, operation: &Operation, doing: Doing) {
        self.request_with(hub, operation, None, doing);
    }

    fn request_with(&mut self, hub: usize, operation: &Operation, text: Option<&str>, doing: Doing) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.callers[hub].busy = Some((request, doing));
        let first = self.random.below(self.setup.cores);
        let cores = (0..self.setup.cores).map(|n| (first + n) % self.setup.cores);
        let core = cores.into_iter().find(|&core| self.admits(core)).unwrap_or(first);
        self.feed(core, hub, Input::Operation(request, operation, text.map(|text| Data::text(text).into())));
    }
}
