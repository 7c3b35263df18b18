//! TCP as it comes in: which packet is for which connection, and what a connection makes of it.

use std::net::SocketAddr;

use net_api::{Key, NetError, Readiness};
use smoltcp::socket::tcp::State;

use crate::connection::{Connection, Owner};
use crate::host::{Holder, News, Tuple, Who};
use crate::network_file::Script;
use crate::packet::{self, Segment};
use crate::peer::{Act, Play};
use crate::slab::Id;
use crate::world::{Event, World};

impl World {
    pub(crate) fn segment_arrives(&mut self, host: usize, frame: Vec<u8>, segment: Segment) {
        let tuple = Tuple { local: segment.to, remote: segment.from };
        if let Some(id) = self.hosts[host].connections.get(&tuple).copied() {
            return self.drive(id, Some((frame, segment)));
        }
        let now = self.now;
        let finished = &mut self.hosts[host].finished;
        if let Some(last) = finished.last_frame(now, &tuple) {
            if segment.is_offer || segment.is_reset {
                finished.remove(&tuple);
            } else {
                if segment.wants_answer {
                    let last = last.to_vec();
                    self.outbox.push(last);
                    self.send_outbox(host);
                }
                return;
            }
        }
        match self.holder_for(host, tuple.local) {
            Some(holder) if segment.is_offer => self.offer_arrives(host, tuple, holder.who, frame, segment),
            _ => self.answer_stray(host, frame),
        }
    }

    /// Whose an offer to `local` is: of those that share the port, the one with exactly this address, if it listens.
    fn holder_for(&self, host: usize, local: SocketAddr) -> Option<Holder> {
        let listens = |who: Who| match who {
            Who::User(id) => self.addresses.get(id).is_some_and(|address| address.listener.is_some()),
            Who::Peer(_) => true,
        };
        let holders = self.hosts[host].tcp_ports.at(local.port()).iter();
        let matching = holders.filter(|holder| {
            holder.ip.is_ipv4() == local.is_ipv4() && (holder.ip.is_unspecified() || holder.ip == local.ip())
        });
        matching.max_by_key(|holder| (listens(holder.who), !holder.ip.is_unspecified())).copied()
    }

    fn offer_arrives(&mut self, host: usize, tuple: Tuple, who: Who, frame: Vec<u8>, segment: Segment) {
        let owner = match who {
            Who::Peer(peer) => match &self.peers[peer].script {
                Script::Ignore => return,
                script => Owner::Peer(Box::new(Play::new(peer, script))),
            },
            Who::User(id) => {
                let listener = self.addresses.get(id).and_then(|address| address.listener.as_ref());
                match listener {
                    Some(listener) if listener.offers.len() < listener.backlog => Owner::Offer(id),
                    // Too many, or none wanted: refused.
                    _ => return self.answer_stray(host, frame),
                }
            }
        };
        // The remote side is one of the hosts, or its packet would not be here.
        let Some(from) = self.host_at(host, tuple.remote.ip()) else { return };
        let mtu = self.mtu_between(host, from);
        let address = if let Owner::Offer(address) = owner { Some(address) } else { None };
        let mut connection = Connection::new(host, mtu, tuple, owner, &self.hosts[host].limits);
        let socket = connection.socket_mut();
        socket.listen(tuple.local).expect("a new socket listens on any port but 0, which nobody holds");
        // Until somebody wants the offer, the remote side waits, and can still be refused.
        socket.pause_synack(address.is_some());
        connection.is_paused = address.is_some();
        let id = self.attach(connection);
        self.drive(id, Some((frame, segment)));
        let is_wanted = self.connections.get(id).is_some_and(|one| one.socket().state() == State::SynReceived);
        if !is_wanted {
            self.forget(id);
        } else if let Some(address) = address {
            self.tell_of_offer(address, id);
        }
    }

    /// Makes packets reach a new connection.
    pub(crate) fn attach(&mut self, connection: Connection) -> Id {
        let (host, tuple) = (connection.host, connection.tuple);
        let id = self.connections.insert(connection);
        self.hosts[host].connections.insert(tuple, id);
        id
    }

    /// No packet reaches the connection any more; its socket is only read.
    pub(crate) fn detach(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::replace(&mut connection.is_attached, false) {
            self.hosts[connection.host].connections.remove(&connection.tuple);
        }
    }

    /// Nothing remains of the connection; the remote side is not told.
    pub(crate) fn forget(&mut self, id: Id) {
        self.detach(id);
        self.connections.remove(id);
    }

    pub(crate) fn mark_dirty(&mut self, id: Id) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push_back(id);
        }
    }

    /// Lets the connection's socket take a packet and send what it has to, and sees what came of it.
    pub(crate) fn drive(&mut self, id: Id, incoming: Option<(Vec<u8>, Segment)>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_dirty = false;
        if !connection.is_attached {
            return;
        }
        let host_number = connection.host;
        let host = &mut self.hosts[host_number];
        let before = connection.socket().state();
        let heard = incoming.is_some();
        let was_reset = incoming.as_ref().is_some_and(|(_, segment)| segment.is_reset);
        let mut frame = incoming.map(|(frame, _)| frame);
        let next = connection.retransmission.next;
        if let Some(frame) = &mut frame {
            packet::refresh_window(frame, &mut connection.window, next);
            if let Some(number) = packet::acknowledgement(frame) {
                connection.retransmission.acknowledge(self.now, number);
                connection.urgent.acknowledge(number);
            }
        }
        // Not in LAST-ACK: there smoltcp answers such an acknowledgement and looks no further.
        let is_end_all = matches!(before, State::FinWait1 | State::Closing) && connection.socket().send_queue() == 0;
        frame.take_if(|frame| is_end_all && packet::only_acknowledges_before(frame, next));
        let first = frame.as_deref().and_then(packet::first_of_stream);
        let room = connection.socket().recv_capacity();
        let is_news = frame.as_deref().is_some_and(|frame| connection.urgent.note(frame, room));
        connection.poll(host.stack(connection.mtu), self.now, frame, &mut self.outbox);

        let state = connection.socket().state();
        // The socket knows whether this is the beginning of this connection or of one before it.
        if let (Some(first), State::Listen | State::SynSent) = (first, before)
            && (state == State::SynReceived || is_synchronized(state))
        {
            connection.urgent.begin_to_receive(first);
        }
        if let (State::Closing | State::TimeWait, Some(frame)) = (state, self.outbox.last()) {
            connection.last_frame.clone_from(frame);
        }
        // Unless the remote side's end is acknowledged yet, the socket is still needed.
        let sent = !self.outbox.is_empty();
        let is_finished = state == State::TimeWait && !connection.last_frame.is_empty();
        self.send_outbox(host_number);
        self.see_changes(id, before, was_reset, is_news);
        if is_finished {
            self.finish(id);
        }
        self.tidy(id);
        self.set_timer(id, heard, sent);
    }

    /// What has changed since the socket was in state `before`: tells the owner. `is_urgent` says that a packet told of an urgent
    /// byte.
    fn see_changes(&mut self, id: Id, before: State, was_reset: bool, is_urgent: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut ready = if is_urgent { Readiness::URGENT } else { Readiness::NONE };
        let state = connection.socket().state();
        if !connection.is_established && is_synchronized(state) {
            connection.is_established = true;
            ready |= Readiness::WRITABLE;
            // Its owner has left while the handshake was under way.
            if matches!(connection.owner, Owner::Nobody) {
                connection.end();
                self.mark_dirty(id);
            }
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let bytes = connection.socket().recv_queue();
        if bytes > connection.known_bytes {
            ready |= Readiness::READABLE;
        }
        connection.known_bytes = bytes;
        if connection.wants_room && connection.has_worthy_room() {
            connection.wants_room = false;
            ready |= Readiness::WRITABLE;
        }
        let is_orderly = before == State::LastAck && !was_reset;
        if !connection.has_remote_ended && (has_received_end(state) || state == State::Closed && is_orderly) {
            connection.has_remote_ended = true;
            ready |= Readiness::READABLE | Readiness::REMOTE_ENDED;
        }
        // A reset takes a socket that was offered a connection back to listening.
        if matches!(state, State::Closed | State::Listen) && connection.failure.is_none() {
            if !is_orderly {
                let refused = before == State::SynSent;
                connection.failure = Some(if refused { NetError::Refused } else { NetError::Reset });
            }
            ready |= Readiness::BROKEN | Readiness::READABLE | Readiness::WRITABLE;
            self.detach(id);
        }
        self.tell(id, ready);
    }

    /// Both sides have ended, this one first: all that may be left to do is to say so again.
    fn finish(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (host, tuple) = (connection.host, connection.tuple);
        let last_frame = std::mem::take(&mut connection.last_frame);
        self.detach(id);
        self.hosts[host].finished.insert(self.now, tuple, last_frame);
        self.tell(id, Readiness::BROKEN | Readiness::WRITABLE);
    }

    /// Ends what nobody waits for.
    fn tidy(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match &connection.owner {
            Owner::Nobody if !connection.is_attached => self.forget(id),
            // Bytes for somebody who has left: the remote side must learn that they went nowhere.
            Owner::Nobody if connection.socket().recv_queue() > 0 => self.reset(id, NetError::Aborted),
            Owner::Offer(address) if !connection.is_attached => {
                let address = *address;
                self.forget(id);
                if let Some(listener) = self.addresses.get_mut(address).and_then(|one| one.listener.as_mut()) {
                    listener.offers.retain(|offer| *offer != id);
                }
            }
            Owner::Nobody | Owner::Offer(_) | Owner::User | Owner::Peer(_) => {}
        }
    }

    /// Tells the remote side of an abort, at once.
    pub(crate) fn reset(&mut self, id: Id, why: NetError) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.failure = Some(why);
        if connection.is_attached {
            let host = connection.host;
            connection.socket_mut().abort();
            let stack = self.hosts[host].stack(connection.mtu);
            connection.poll(stack, self.now, None, &mut self.outbox);
            self.send_outbox(host);
            self.detach(id);
        }
        self.tell(id, Readiness::BROKEN | Readiness::READABLE | Readiness::WRITABLE);
        self.tidy(id);
    }

    fn set_timer(&mut self, id: Id, heard: bool, sent: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.is_attached {
            return;
        }
        let host = &mut self.hosts[connection.host];
        let patience = connection.be_patient(self.now, heard, sent, &host.limits);
        // A paused socket believes that it could send at any time.
        let socket = if connection.is_paused { None } else { connection.poll_at(host.stack(connection.mtu), self.now) };
        let again = connection.retransmission.due_at();
        let Some(at) = patience.into_iter().chain(socket).chain(again).min() else { return };
        // Whatever a socket could do now it has done.
        let at = at.max(self.now + 1000);
        if connection.timer_at.is_none_or(|earlier| at < earlier) {
            connection.timer_at = Some(at);
            self.agenda.plan(at, Event::Timer(id));
        }
    }

    pub(crate) fn timer(&mut self, id: Id) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(id) else { return };
        // Another timer has been set for earlier, and this one is of no account.
        if connection.timer_at != Some(now) {
            return;
        }
        connection.timer_at = None;
        if !connection.is_patience_over(now) {
            return self.go_on(id);
        }
        if connection.socket().state() == State::SynSent {
            // There is nobody to be told.
            connection.failure = Some(NetError::TimedOut);
            self.detach(id);
        }
        self.reset(id, NetError::TimedOut);
    }

    /// Lets a connection do what it is time for.
    fn go_on(&mut self, id: Id) {
        let now = self.now;
        // Before it sends anything again, the socket may have an acknowledgement to send that it has put off.
        for _ in 0..2 {
            if let Some(connection) = self.connections.get_mut(id)
                && connection.retransmission.is_due(now)
            {
                connection.skip(self.hosts[connection.host].stack(connection.mtu), now);
            }
            self.drive(id, None);
            match self.connections.get(id) {
                Some(connection) if connection.retransmission.is_due(now) => {}
                Some(_) | None => return,
            }
        }
        // There was nothing that it could send again.
        if let Some(connection) = self.connections.get_mut(id) {
            connection.retransmission.time_out(now);
        }
    }

    /// Tells the owner of a connection that something can go on.
    pub(crate) fn tell(&mut self, id: Id, ready: Readiness) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if ready.is_none() {
            return;
        }
        match &connection.owner {
            Owner::User if connection.key.is_some() => {
                connection.news |= ready;
                if !std::mem::replace(&mut connection.is_queued, true) {
                    self.hosts[connection.host].news.push_back(News::Connection(id));
                }
            }
            Owner::Peer(_) => {
                if !std::mem::replace(&mut connection.is_queued, true) {
                    self.restless.push_back(id);
                }
            }
            // Whoever begins to watch is told what is true then.
            Owner::User | Owner::Offer(_) | Owner::Nobody => {}
        }
    }

    fn tell_of_offer(&mut self, id: Id, offer: Id) {
        let Some(address) = self.addresses.get_mut(id) else { return };
        let Some(listener) = &mut address.listener else { return };
        listener.offers.push_back(offer);
        if !std::mem::replace(&mut address.is_queued, true) {
            self.hosts[address.host].news.push_back(News::Listener(id));
        }
    }

    /// Lets a peer act on one of its connections.
    pub(crate) fn play(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_queued = false;
        let owner = std::mem::replace(&mut connection.owner, Owner::Nobody);
        let Owner::Peer(mut play) = owner else {
            connection.owner = owner;
            return;
        };
        if !connection.is_established && connection.failure.is_none() {
            connection.owner = Owner::Peer(play);
            return;
        }
        // Taken out meanwhile, it must not be taken for one that nobody waits for.
        connection.owner = Owner::User;
        let act = play.act(&mut crate::peer::Stream { world: self, id });
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.owner = Owner::Peer(play);
        match act {
            Act::Wait => {}
            Act::Close => self.close(id),
            Act::Reset => {
                self.reset(id, NetError::Aborted);
                self.forget(id);
            }
        }
    }

    /// A crash: connections vanish without a word.
    pub(crate) fn lose_connections(&mut self, host: usize) {
        let ids: Vec<Id> = self.connections.ids().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.host != host {
                continue;
            }
            connection.failure = Some(NetError::Aborted);
            if matches!(connection.owner, Owner::User) {
                self.detach(id);
                self.tell(id, Readiness::BROKEN | Readiness::READABLE | Readiness::WRITABLE);
            } else {
                self.forget(id);
            }
        }
    }

    /// Begins to tell the user of a connection.
    pub(crate) fn watch(&mut self, id: Id, key: Key) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.key.is_some() {
            return;
        }
        connection.key = Some(key);
        let ready = connection.readiness();
        self.tell(id, ready);
    }

    /// Answers an offer that was not answered yet.
    pub(crate) fn answer(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if std::mem::replace(&mut connection.is_paused, false) {
            connection.socket_mut().pause_synack(false);
            self.mark_dirty(id);
        }
    }
}

/// Whether the handshake is done in this state.
const fn is_synchronized(state: State) -> bool {
    match state {
        State::Closed | State::Listen | State::SynSent | State::SynReceived => false,
        State::Established
        | State::FinWait1
        | State::FinWait2
        | State::CloseWait
        | State::Closing
        | State::LastAck
        | State::TimeWait => true,
    }
}

/// Whether the remote side has ended its direction in this state.
const fn has_received_end(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::{Arc, Mutex};

    use net_api::{Key, Sent};

    use super::*;
    use crate::frame::{Frame, FrameSink};
    use crate::network_file::NetworkFile;

    const SECOND: u64 = 1_000_000_000;

    /// A world of two hosts, of which `a` connects to port 9 of `b`. `more` is what the file says of `b`, and then of anything else.
    fn connecting(more: &str) -> (World, Id) {
        let hosts = r#"
            [[host]]
            name = "a"
            address = ["10.0.0.1"]
            [[host]]
            name = "b"
            address = ["10.0.0.2"]
        "#;
        let mut world = World::new(&NetworkFile::parse(&format!("{hosts}{more}")).unwrap(), 1);
        let (local, remote) = ("0.0.0.0:0".parse().unwrap(), "10.0.0.2:9".parse().unwrap());
        let id = world.connect(0, local, remote, Owner::User, Some(Key(1))).unwrap();
        (world, id)
    }

    /// The last packet of host `b`.
    struct LastOfB(Arc<Mutex<Vec<u8>>>);

    impl FrameSink for LastOfB {
        fn record(&mut self, frame: &Frame<'_>) {
            if packet::destination(frame.bytes) == "10.0.0.1".parse().ok() {
                *self.0.lock().unwrap() = frame.bytes.to_vec();
            }
        }
    }

    /// What the file says of a link that is down in the fourth second.
    const DARK_SECOND: &str = r#"
        [[fault]]
        at = "3s"
        until = "4s"
        link = ["a", "b"]
        down = true
    "#;

    /// A world in which `a` has sent these bytes, and its end in the fourth second, and then so many copies of `b`'s last packet
    /// have arrived; much later.
    fn ended_in_the_dark(more: &str, bytes: &[u8], copies: usize) -> (World, Id) {
        let (mut world, id) = connecting(&format!("{more}{DARK_SECOND}"));
        let acknowledgement = Arc::new(Mutex::new(Vec::new()));
        world.sink = Some(Box::new(LastOfB(Arc::clone(&acknowledgement))));
        world.settle();
        world.advance(SECOND);
        assert_eq!(world.send(id, &[IoSlice::new(bytes)]), Sent::Taken(bytes.len()));
        world.settle();
        world.advance(3 * SECOND);

        world.shutdown_send(id).unwrap();
        world.settle();
        for _ in 0..copies {
            let frame = acknowledgement.lock().unwrap().clone();
            let Some(packet::Packet::Tcp(segment)) = packet::parse(&frame) else { panic!("{frame:?}") };
            world.segment_arrives(0, frame.clone(), segment);
            world.settle();
        }
        world.advance(100 * SECOND);
        (world, id)
    }

    #[test]
    fn abort_after_a_time_out_reaches_a_peer_that_has_later_bytes() {
        // All bytes arrive, but what acknowledges them does not, and what is repeated of them is lost.
        let more = r#"
            [default_link]
            latency = "100ms"
            [[peer]]
            host = "b"
            kind = "sink"
            port = 9
            [[fault]]
            at = "4050ms"
            until = "5300ms"
            link = ["a", "b"]
            down = true
        "#;
        const MILLISECOND: u64 = SECOND / 1000;
        let (mut world, id) = connecting(more);
        world.settle();
        // The first ones open the congestion window, so that the last one travels at once.
        for at in [900, 1600, 2300, 3000, 4000] {
            world.advance(at * MILLISECOND);
            assert_eq!(world.send(id, &[IoSlice::new(&[0; 14600])]), Sent::Taken(14600));
            world.settle();
        }
        world.advance(5600 * MILLISECOND);
        assert!(world.connections.get(id).unwrap().socket().send_queue() > 0, "all was acknowledged");
        assert_eq!(world.hosts[1].connections.len(), 1);

        world.reset(id, NetError::Aborted);
        world.settle();
        world.advance(6 * SECOND);
        assert!(world.hosts[1].connections.is_empty(), "the peer was not told");
    }

    #[test]
    fn lost_end_is_repeated_though_acknowledgements_of_the_bytes_before_it_are_too() {
        // The end is the first one, and the second.
        let peers = ["kind = \"sink\"", "kind = \"half_close\"\ntext = \"I have ended\""];
        for (peer, copies) in peers.into_iter().flat_map(|peer| (0..5).map(move |copies| (peer, copies))) {
            let more = format!("[[peer]]\nhost = \"b\"\n{peer}\nport = 9\n");
            let (world, id) = ended_in_the_dark(&more, b"bytes", copies);
            let connection = world.connections.get(id).unwrap();
            assert!(connection.has_remote_ended && connection.failure.is_none(), "{peer}, {copies} copies");
            assert!(!connection.is_attached && world.hosts[1].connections.is_empty(), "{peer}, {copies} copies");
        }
    }

    #[test]
    fn abort_after_a_question_for_a_shut_window_reaches_the_peer() {
        let more = r#"
            receive_buffer = "4KiB"
            [[peer]]
            host = "b"
            kind = "silent"
            port = 9
        "#;
        let (mut world, id) = connecting(more);
        world.settle();
        world.advance(SECOND);
        assert_eq!(world.send(id, &[IoSlice::new(&[0; 14600])]), Sent::Taken(14600));
        world.settle();
        let acknowledged = |world: &World| 14600 - world.connections.get(id).unwrap().socket().send_queue();
        world.advance(2 * SECOND);
        let before = acknowledged(&world);
        world.advance(20 * SECOND);
        assert!(before < 14600 && acknowledged(&world) == before, "the window is shut");

        world.reset(id, NetError::Aborted);
        world.settle();
        world.advance(21 * SECOND);
        assert!(world.hosts[1].connections.is_empty(), "the peer was not told");
    }

    #[test]
    fn end_that_is_lost_at_a_shut_window_is_repeated_though_acknowledgements_of_the_bytes_before_it_are_too() {
        let more = r#"
            receive_buffer = "4KiB"
            [[peer]]
            host = "b"
            kind = "silent"
            port = 9
        "#;
        // The second time a question for the window would have the last byte and the end in it.
        for (count, copies) in (0..5).flat_map(|copies| [(4096, copies), (4097, copies)]) {
            let (mut world, _) = ended_in_the_dark(more, &vec![0; count], copies);
            let b = *world.hosts[1].connections.values().next().unwrap();
            let mut room = vec![0; count];
            assert_eq!(world.receive(b, &mut [std::io::IoSliceMut::new(&mut room)]), net_api::Received::Got(4096));
            world.settle();
            world.advance(200 * SECOND);
            assert!(world.connections.get(b).unwrap().has_remote_ended, "{count} bytes, {copies} copies");
        }
    }
}
