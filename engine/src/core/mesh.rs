//! Between cores: one bounded queue per ordered pair, one batch per pair and turn.
//!
//! What must stay true: draining is never conditional (two full queues waiting for each other would be the
//! end), a batch that finds its queue full stays here and grows, and while any such batch is over its bound
//! this core takes no new socket input ([`Mesh::admits`]); what draining itself causes is bounded by the
//! requests in flight.

use crate::core::counters::{ConnectionPage, CoreShared};
use crate::core::ring::Ring;
use crate::core::settings::MeshSettings;
use crate::core::sleep::Sleep;
use crate::core::socket::{Tls, Unread};
use crate::net::Listener;
use crossbeam::queue::ArrayQueue;
use ringhub_hub::{ConnectionId, CoreId, MeshItem};
use ringhub_protocol::name::HubName;
use ringhub_protocol::pubsub::Subprotocol;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, Ordering};

/// One thing a core tells another.
#[derive(Debug)]
pub(crate) enum Note {
    /// From a hub to its other half, in order.
    Hub(HubName, Vec<MeshItem>),
    /// A socket whose session lives there.
    Socket(Box<Moved>),
    /// Asks for the list of connections; `request` is the asker's.
    AskConnections { request: u64, max: usize },
    /// Answers it.
    Connections { request: u64, page: ConnectionPage },
}

/// A socket on its way, before its 101 (design §3: a socket may move once).
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) fd: OwnedFd,
    /// What came after the request head.
    pub(crate) unread: Unread,
    /// Its TLS, with records that are still to be sent.
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) listener: Listener,
    /// The session it asks for.
    pub(crate) session: Session,
    /// The 101.
    pub(crate) prologue: Vec<u8>,
}

/// Which session a client comes back for.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) hub: HubName,
    pub(crate) id: ConnectionId,
    /// What the client offered.
    pub(crate) subprotocol: Subprotocol,
    /// Where the client is.
    pub(crate) address: Option<IpAddr>,
    /// Whether it is answered that messages may be deflated.
    pub(crate) deflate: bool,
}

type Batch = Vec<Note>;

/// What all threads know of the cores.
pub(crate) struct Peers {
    /// From core `a` to core `b` at `a × cores + b`.
    queues: Vec<ArrayQueue<Batch>>,
    cores: Vec<Peer>,
    leave: AtomicBool,
    stop: AtomicBool,
    /// Cores that stop and have no sockets left.
    empty: AtomicU16,
}

struct Peer {
    sleep: Sleep,
    /// Its ring's descriptor, −1 before it has one.
    ring: AtomicI32,
    /// For threads without a ring.
    bell: UnixStream,
}

impl Peers {
    /// Peers of `cores` cores, and each core's end of its bell.
    pub(crate) fn new(cores: u16, settings: &MeshSettings) -> io::Result<(Arc<Self>, Vec<UnixStream>)> {
        let mut bells = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..cores {
            let (bell, end) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            end.set_nonblocking(true)?;
            peers.push(Peer { sleep: Sleep::default(), ring: AtomicI32::new(-1), bell });
            bells.push(end);
        }
        let pairs = usize::from(cores) * usize::from(cores);
        let queues = (0..pairs).map(|_| ArrayQueue::new(settings.batches_max.max(1))).collect();
        let (leave, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let empty = AtomicU16::new(0);
        Ok((Arc::new(Self { queues, cores: peers, leave, stop, empty }), bells))
    }

    /// Asks every core to close its clients by and by, from any thread.
    pub(crate) fn leave(&self) {
        self.leave.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Asks every core to stop, from any thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The same when some cores never ran: nobody waits for those to say that they are empty.
    pub(crate) fn give_up(&self) {
        self.empty.store(self.cores.len() as u16, Ordering::SeqCst);
        self.stop();
    }

    /// Has every core make a turn, from any thread.
    pub(crate) fn wake(&self) {
        for peer in &self.cores {
            // A full bell is rung already.
            let _ = (&peer.bell).write(&[1]);
        }
    }

    /// Wakes a core if it sleeps, from any thread, after something was put where it looks.
    pub(crate) fn wake_one(&self, core: CoreId) {
        let peer = &self.cores[usize::from(core.0)];
        if peer.sleep.must_ring() {
            let _ = (&peer.bell).write(&[1]);
        }
    }

    /// Whether clients are to be closed by and by.
    pub(crate) fn leaving(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }

    /// Whether the server is to stop.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// One core's end of the mesh.
pub(crate) struct Mesh {
    peers: Arc<Peers>,
    core: CoreId,
    settings: MeshSettings,
    /// What is to be sent, by core, and about how many bytes it is.
    outgoing: Vec<(Batch, usize)>,
    /// Whether anything is in `outgoing`.
    unsent: bool,
    /// Whether this core is one of those that are empty.
    said_empty: bool,
    shared: Arc<CoreShared>,
}

impl Mesh {
    pub(crate) fn new(
        peers: Arc<Peers>,
        core: CoreId,
        settings: MeshSettings,
        shared: Arc<CoreShared>,
    ) -> Self {
        let outgoing = peers.cores.iter().map(|_| (Batch::new(), 0)).collect();
        Self { peers, core, settings, outgoing, unsent: false, said_empty: false, shared }
    }

    /// How many cores there are.
    pub(crate) fn cores(&self) -> u16 {
        self.outgoing.len() as u16
    }

    /// The other cores.
    pub(crate) fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let core = self.core;
        (0..self.cores()).map(CoreId).filter(move |other| *other != core)
    }

    /// Tells the others where to ring.
    pub(crate) fn publish(&self, ring: &Ring) {
        self.peers.cores[usize::from(self.core.0)].ring.store(ring.descriptor(), Ordering::SeqCst);
    }

    /// Whether new socket input may be taken.
    pub(crate) fn admits(&self) -> bool {
        !self.unsent || self.outgoing.iter().all(|(_, bytes)| *bytes < self.settings.batch_bytes_max)
    }

    /// Whether a batch waits for room at its receiver.
    pub(crate) fn is_stuck(&self) -> bool {
        self.unsent
    }

    /// Adds an item of `hub` to the batch for `core`.
    pub(crate) fn forward(&mut self, core: CoreId, hub: &HubName, item: MeshItem) {
        self.unsent = true;
        let (batch, bytes) = &mut self.outgoing[usize::from(core.0)];
        *bytes += item.bytes();
        match batch.last_mut() {
            Some(Note::Hub(last, items)) if last == hub => items.push(item),
            _ => batch.push(Note::Hub(hub.clone(), vec![item])),
        }
    }

    /// Adds a note to the batch for `core`.
    pub(crate) fn tell(&mut self, core: CoreId, note: Note) {
        self.unsent = true;
        let (batch, bytes) = &mut self.outgoing[usize::from(core.0)];
        *bytes += match &note {
            Note::Socket(moved) => 256 + moved.unread.len(),
            Note::Connections { page, .. } => 256 * (1 + page.rows.len()),
            Note::Hub(..) | Note::AskConnections { .. } => 64,
        };
        batch.push(note);
    }

    /// Hands every batch to its queue, ringing receivers that sleep. What finds its queue full stays.
    pub(crate) fn send(&mut self, ring: &mut Ring) {
        if !self.unsent {
            return;
        }
        let (mut unsent, mut unsent_bytes) = (false, 0);
        for (to, (batch, bytes)) in self.outgoing.iter_mut().enumerate() {
            if batch.is_empty() {
                continue;
            }
            let queue = &self.peers.queues[usize::from(self.core.0) * self.peers.cores.len() + to];
            if let Err(full) = queue.push(std::mem::take(batch)) {
                *batch = full;
                unsent = true;
                unsent_bytes += *bytes;
                continue;
            }
            *bytes = 0;
            self.shared.counters.mesh_batches.add(1);
            let peer = &self.peers.cores[to];
            if peer.sleep.must_ring() {
                let descriptor = peer.ring.load(Ordering::SeqCst);
                debug_assert!(descriptor >= 0, "a core sleeps only after it has published its ring");
                self.shared.counters.mesh_wakes.add(1);
                ring.ring_doorbell(descriptor, to as u16);
            }
        }
        self.unsent = unsent;
        self.shared.counters.mesh_unsent_bytes.set(unsent_bytes as u64);
    }

    /// A core could not be rung by way of its ring: its bell does as well.
    pub(crate) fn ring_bell(&self, core: u32) {
        self.shared.counters.mesh_wakes_failed.add(1);
        // A full bell is rung already.
        let _ = (&self.peers.cores[core as usize].bell).write(&[1]);
    }

    /// Takes the next batch from any core; the caller goes on until there is none.
    pub(crate) fn receive(&mut self) -> Option<(CoreId, Batch)> {
        let cores = self.peers.cores.len();
        self.others().find_map(|from| {
            let at = usize::from(from.0) * cores + usize::from(self.core.0);
            self.peers.queues[at].pop().map(|batch| (from, batch))
        })
    }

    /// Most batches that can wait for this core.
    pub(crate) fn batches_max(&self) -> usize {
        usize::from(self.cores()) * self.settings.batches_max.max(1)
    }

    /// Whether a batch waits for this core.
    pub(crate) fn is_empty(&self) -> bool {
        let cores = self.peers.cores.len();
        self.others()
            .all(|from| self.peers.queues[usize::from(from.0) * cores + usize::from(self.core.0)].is_empty())
    }

    /// Says that this core is about to sleep. False, and nothing said, if something came in meanwhile.
    /// `others_quiet` is asked after it is said: whether there is nothing from elsewhere.
    pub(crate) fn may_sleep(&self, stop_seen: bool, others_quiet: impl FnOnce() -> bool) -> bool {
        let sleep = &self.peers.cores[usize::from(self.core.0)].sleep;
        sleep.announce();
        let quiet = self.is_empty() && others_quiet() && (stop_seen || !self.peers.stopping());
        if !quiet {
            sleep.awake();
        }
        quiet
    }

    /// Says that this core is awake.
    pub(crate) fn awake(&self) {
        self.peers.cores[usize::from(self.core.0)].sleep.awake();
    }

    /// Whether clients are to be closed by and by.
    pub(crate) fn leaving(&self) -> bool {
        self.peers.leaving()
    }

    /// Whether the server is to stop.
    pub(crate) fn stopping(&self) -> bool {
        self.peers.stopping()
    }

    /// Says, once, that this core stops and has no sockets left. The last one to say so wakes the others, who wait
    /// for that.
    pub(crate) fn say_empty(&mut self) {
        if !self.said_empty {
            self.said_empty = true;
            if self.peers.empty.fetch_add(1, Ordering::SeqCst) + 1 == self.cores() {
                self.peers.wake();
            }
        }
    }

    /// Whether every core has said so: nobody is left who may need an answer of another core.
    pub(crate) fn all_empty(&self) -> bool {
        self.peers.empty.load(Ordering::SeqCst) >= self.cores()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::settings::RingSettings;
    use ringhub_hub::Ticket;
    use std::io::Read;

    fn mesh(peers: &Arc<Peers>, core: u16, settings: MeshSettings) -> Mesh {
        Mesh::new(Arc::clone(peers), CoreId(core), settings, Arc::default())
    }

    #[test]
    fn a_full_queue_keeps_the_batch_and_the_order_and_stops_admission() {
        let settings = MeshSettings { batches_max: 1, batch_bytes_max: 200 };
        let (peers, _bells) = Peers::new(2, &settings).unwrap();
        let (mut a, mut b) = (mesh(&peers, 0, settings), mesh(&peers, 1, settings));
        let mut ring =
            Ring::new(&RingSettings { submissions: 8, completions: 16, ..RingSettings::default() }).unwrap();
        let hub = HubName::parse("h").unwrap();
        for n in 0..5 {
            a.forward(CoreId(1), &hub, MeshItem::Agreed(Ticket(n)));
            a.send(&mut ring);
        }
        // The first went out; four of 64 bytes each wait.
        assert!(a.is_stuck() && !a.admits());
        let mut got = Vec::new();
        while let Some((from, batch)) = b.receive() {
            assert_eq!(from, CoreId(0));
            for note in batch {
                let Note::Hub(_, items) = note else { panic!("only hub items were sent") };
                got.extend(items.iter().map(|item| match item {
                    MeshItem::Agreed(ticket) => ticket.0,
                    _ => panic!("only agreements were sent"),
                }));
            }
            a.send(&mut ring);
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert!(!a.is_stuck() && a.admits());
    }

    #[test]
    fn cores_end_together_and_do_not_wait_for_one_that_never_ran() {
        let settings = MeshSettings::default();
        let (peers, bells) = Peers::new(2, &settings).unwrap();
        let (mut a, mut b) = (mesh(&peers, 0, settings), mesh(&peers, 1, settings));
        let is_rung = |bell: &UnixStream| (&mut &*bell).read(&mut [0; 8]).is_ok();
        (0..3).for_each(|_| a.say_empty());
        assert!(!a.all_empty() && !bells.iter().any(is_rung), "it is not both of them");
        b.say_empty();
        assert!(a.all_empty() && b.all_empty() && bells.iter().all(is_rung));

        let (peers, bells) = Peers::new(2, &settings).unwrap();
        let only = mesh(&peers, 0, settings);
        peers.give_up();
        assert!(only.all_empty() && only.stopping() && is_rung(&bells[0]));
    }

    #[test]
    fn a_core_does_not_sleep_on_a_batch() {
        let settings = MeshSettings::default();
        let (peers, _bells) = Peers::new(2, &settings).unwrap();
        let (mut a, b) = (mesh(&peers, 0, settings), mesh(&peers, 1, settings));
        let ring = &mut Ring::new(&RingSettings::default()).unwrap();
        b.publish(ring);
        assert!(b.may_sleep(false, || true));
        a.tell(CoreId(1), Note::AskConnections { request: 1, max: 1 });
        a.send(ring);
        assert_eq!(a.shared.counters.mesh_wakes.get(), 1);
        assert!(!b.may_sleep(false, || true));
        a.tell(CoreId(1), Note::AskConnections { request: 2, max: 1 });
        a.send(ring);
        assert_eq!(a.shared.counters.mesh_wakes.get(), 1, "an awake core is not rung");
    }
}
