//! How runs end: the faults are over, and everything must come right; or the server stops, and nothing may be left.

use super::client::{Member, Phase};
use super::{Fault, HUBS, Mode, RECOVERY_WINDOW_MS, World, name};
use ringhub_hub::{CoreId, Input, Time};
use ringhub_protocol::pubsub::Subprotocol;
use ringhub_protocol::rest::Target;
use ringhub_protocol::ws::CloseCode;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds in which everything must have come right, once nothing goes wrong any more. A round lets everybody do
/// everything once, with budgets so small that a fan-out takes many.
const ROUNDS_MAX: usize = 60;

impl World {
    pub(crate) fn finish(&mut self) {
        match self.mode {
            Mode::Safety => self.stop_everything(),
            Mode::Liveness => self.come_right(),
        }
        // Timeouts of what has ended are void, and go when they are due.
        self.now = Time(self.now.0 + 2 * RECOVERY_WINDOW_MS);
        (0..self.cores.len()).for_each(|core| self.timeouts(core));
        for core in &self.cores {
            for hub in &core.hubs {
                assert_eq!((hub.counters().connections, hub.counters().suspended), (0, 0));
                self.tally.sliced += hub.counters().flushes_sliced;
                self.tally.expired += hub.counters().messages_expired;
                assert_eq!(hub.group_counts(), (0, 0), "groups are left");
                assert!(!hub.is_dirty() && hub.next_timeout().is_none() && !hub.awaits_replies());
            }
        }
        assert!(self.callers.iter().all(|caller| caller.busy.is_none()), "a REST call was not answered");
        self.handler.finish(self.mode == Mode::Liveness);
        self.tally.answered = self.handler.answered;
    }

    /// Everything converges, works once more for everybody, and everybody leaves.
    fn come_right(&mut self) {
        self.calm = true;
        (0..self.setup.cores).for_each(|core| self.set_short_of_memory(core, false));
        self.settle(Self::has_converged, "the faults were over");
        self.check_interest();
        for client in 0..self.clients.len() {
            let group = (self.clients[client].forbidden + 1) % self.setup.groups;
            self.ask_for(client, group, true);
        }
        self.settle(Self::has_converged, "everybody was to join a group");
        self.check_interest();
        let before = self.tally.deliveries;
        for client in 0..self.clients.len() {
            let group = (self.clients[client].forbidden + 1) % self.setup.groups;
            (0..2).for_each(|_| self.publish_to(client, group));
        }
        (0..HUBS).for_each(|hub| self.call(hub));
        self.settle(Self::has_converged, "everybody published");
        assert!(self.tally.deliveries > before, "nothing is delivered after the faults");
        self.leaving = true;
        for client in 0..self.clients.len() {
            self.close(client, Some(CloseCode::NORMAL));
        }
        self.settle(Self::is_empty, "everybody left");
    }

    /// Every core stops, if it has not yet; the handler is answered for, or given up.
    fn stop_everything(&mut self) {
        (self.calm, self.leaving) = (true, true);
        (0..self.setup.cores).for_each(|core| self.stop(core));
        if self.random.below(2) == 0 {
            self.handler.deaf_until = u64::MAX;
            // What is on its way between cores arrives first.
            (0..ROUNDS_MAX).for_each(|_| self.round());
            self.note(Fault::GivenUp);
            self.handler.given_up = true;
            for core in 0..self.setup.cores {
                (0..HUBS).for_each(|hub| self.feed(core, hub, Input::GiveUp));
            }
            self.handler.deaf_until = 0;
        }
        self.settle(Self::is_empty, "everything stopped");
    }

    /// Lets rounds pass until `done`, at most as many as there may be.
    fn settle(&mut self, done: impl Fn(&Self) -> bool, since: &str) {
        let mut rounds = 0;
        while !done(self) {
            if rounds == ROUNDS_MAX {
                self.complain(since);
            }
            self.round();
            rounds += 1;
        }
        self.tally.rounds = self.tally.rounds.max(rounds);
    }

    fn complain(&self, since: &str) -> ! {
        for client in &self.clients {
            let (index, kind, phase) = (client.index, client.subprotocol, client.phase);
            let owed: Vec<_> = client.owed.iter().filter(|(_, owed)| !owed.is_empty()).collect();
            eprintln!(
                "client {index} {kind:?} {phase:?}: not answered {:?}, not delivered {owed:?}",
                client.asked
            );
        }
        for (index, core) in self.cores.iter().enumerate() {
            for (which, hub) in core.hubs.iter().enumerate() {
                let (counters, rows) = (hub.counters(), hub.connections(0, usize::MAX));
                eprintln!(
                    "core {index}, hub {which}: {} connections, {} suspended: {rows:?}",
                    counters.connections, counters.suspended
                );
            }
        }
        panic!("not right {ROUNDS_MAX} rounds after {since}, under way: {}", !self.is_quiet());
    }

    /// Everybody does everything once.
    fn round(&mut self) {
        for core in 0..self.cores.len() {
            self.timeouts(core);
            self.flush(core);
            (0..self.cores.len()).for_each(|to| self.carry(core, to));
        }
        for client in 0..self.clients.len() {
            self.read(client);
            self.answer();
            match self.clients[client].phase {
                Phase::Away if !self.leaving => self.connect(client),
                Phase::Lost => self.recover(client),
                _ => {}
            }
            self.ask_again(client);
        }
    }

    /// What became of a request over a lost socket, or of one that crossed an application's, only another request
    /// tells: the client's own, or an application's if it may not ask.
    fn ask_again(&mut self, client: usize) {
        let who = &self.clients[client];
        if who.phase != Phase::Open || who.greeted < 2 {
            return;
        }
        for group in 0..self.setup.groups {
            let who = &self.clients[client];
            let is_asked = who.asked.values().any(|asked| asked.group() == Some(group))
                || who.fences.iter().any(|&(_, fenced)| fenced == group)
                || self.callers[who.hub].changing(client).any(|changing| changing == group);
            if matches!(who.groups[group], Member::Yes | Member::No) || is_asked {
                continue;
            }
            if who.subprotocol != Subprotocol::Raw && who.may_join(group) == Some(true) {
                self.ask_for(client, group, true);
            } else if self.callers[who.hub].busy.is_none() {
                let (hub, id) = (who.hub, who.id.expect("open").to_string());
                self.remove_from_all(hub, Target::Connection(id.as_str().into()), &format!("only:{id}"));
            }
        }
    }

    fn has_converged(&self) -> bool {
        let quiet = |client: &super::Client| {
            let sure = client.groups.iter().all(|member| matches!(member, Member::Yes | Member::No));
            let served = client.asked.is_empty() && client.owed.values().all(|owed| owed.is_empty());
            let heard = client.heard == client.pinged && client.invoked.is_empty();
            client.phase == Phase::Open && client.greeted == 2 && sure && served && heard
        };
        self.clients.iter().all(quiet) && self.is_quiet()
    }

    fn is_empty(&self) -> bool {
        let gone = |core: &super::Core| core.hubs.iter().all(|hub| hub.counters().connections == 0);
        self.is_quiet()
            && self.cores.iter().all(gone)
            && self.clients.iter().all(|client| client.phase == Phase::Away)
    }

    /// Nothing is under way.
    fn is_quiet(&self) -> bool {
        let links = self.links.iter().flatten();
        links.clone().all(|link| link.ring.is_none() && link.outgoing.is_empty())
            && self.callers.iter().all(|caller| caller.busy.is_none())
            && self.handler.is_idle()
            && self.cores.iter().flat_map(|core| &core.hubs).all(|hub| !hub.is_dirty())
    }

    /// Each core knows exactly its groups, who is in them, and which other cores have members of which.
    fn check_interest(&self) {
        for (index, core) in self.cores.iter().enumerate() {
            for (which, hub) in core.hubs.iter().enumerate() {
                let mut expected = BTreeMap::<String, (BTreeSet<_>, BTreeSet<_>)>::new();
                for client in self.clients.iter().filter(|client| client.hub == which) {
                    let is_in = |group: &usize| client.groups[*group] == Member::Yes;
                    for group in (0..self.setup.groups).filter(is_in) {
                        let (here, elsewhere) = expected.entry(name(group).as_str().to_owned()).or_default();
                        if client.core == index {
                            here.insert(client.id.expect("open"));
                        } else {
                            elsewhere.insert(CoreId(client.core as u16));
                        }
                    }
                }
                assert_eq!(hub.known_groups(), expected, "core {index}, hub {which}");
            }
        }
    }
}
