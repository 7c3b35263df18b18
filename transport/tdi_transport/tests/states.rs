//! Tables 11.1 and 12.2 from where drivers stand: every request in every state that a client can bring its endpoint
//! into, and how what is pending ends.
//!
//! The tables below are the rules', written down anew. The state P is missing: over this network an accept is over at
//! once, so nobody can ask in between (`tdi_core` shows that column).

mod client;
mod scripted;

use std::ptr;
use std::sync::Arc;

use client::handlers::{Client, Seen};
use client::*;
use net_api::{NetError, Progress};
use nt_abi::NtStatus;
use nt_abi::tdi::{QUERY_ACCEPT, TdiEvent, TdiRequest, disconnect_flags, receive_flags};
use proves::proves;
use scripted::{Line, Script, remote};

/// A state by the rule's letter.
type State = char;

const STATES: &str = "UACLOERWZ";

/// What a client asks, and where it leads from each of [`STATES`]. `-`: it fails and changes nothing.
const TABLE: [(Ask, &str); 12] = [
    (Ask::Associate, "A--------"),
    (Ask::Disassociate, "-U-------"),
    (Ask::Connect, "-C-------"),
    (Ask::Listen, "-L-------"),
    (Ask::Accept, "----E----"),
    (Ask::Disconnect(0), "--AAAAAA-"),
    (Ask::Disconnect(disconnect_flags::ABORT), "--AAAAAA-"),
    (Ask::Disconnect(disconnect_flags::RELEASE), "--AAAR-A-"),
    (Ask::Disconnect(disconnect_flags::WAIT), "--CLOERW-"),
    (Ask::Send, "-----E-W-"),
    (Ask::Receive, "-----ERW-"),
    (Ask::Close, "ZZZZZZZZ-"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Associate,
    Disassociate,
    Connect,
    Listen,
    Accept,
    Disconnect(u32),
    Send,
    Receive,
    /// The last handle goes.
    Close,
}

/// An endpoint in some state, and what belongs to it.
struct World<'a> {
    network: &'a Script,
    address: File,
    endpoint: File,
    is_closed: bool,
    /// The request that makes the state.
    pending: Option<Request>,
    to: Information,
    from: Buffer,
    into: Buffer,
}

impl<'a> World<'a> {
    fn in_state(network: &'a Script, state: State) -> Self {
        let (address, endpoint) = (open_address("0.0.0.0:0"), open_endpoint(1));
        let to = Information::of(remote());
        let (from, into) = (Buffer::new(*b"out"), Buffer::zeroed(10));
        let mut world = Self { network, address, endpoint, is_closed: false, pending: None, to, from, into };
        if state != 'U' {
            assert_eq!(endpoint.associate(&address), NtStatus::SUCCESS);
        }
        match state {
            'U' | 'A' => {}
            'C' => world.pending = Some(world.connect()),
            'L' => world.pending = Some(world.listen(0)),
            'O' => {
                let listen = world.listen(QUERY_ACCEPT);
                network.offer(remote());
                assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0));
            }
            _ => assert_eq!(endpoint.connect(remote()), NtStatus::SUCCESS),
        }
        match state {
            'R' => world.pending = Some(endpoint.start_disconnect(disconnect_flags::RELEASE, None)),
            'W' => {
                world.line().end();
                assert_eq!(endpoint.receive(10).as_deref(), Ok(b"".as_slice()));
            }
            'Z' => world.close(),
            _ => {}
        }
        world
    }

    fn line(&self) -> Line {
        self.network.line(self.network.lines() - 1)
    }

    fn connect(&self) -> Request {
        self.network.attempt(Ok(Progress::Pending));
        self.endpoint.start_connect(&self.to, None)
    }

    fn listen(&self, flags: u64) -> Request {
        self.endpoint.request(TdiRequest::LISTEN, [flags, 0, 0, 0], ptr::null_mut())
    }

    fn close(&mut self) {
        self.endpoint.close_handle();
        self.is_closed = true;
    }

    fn ask(&mut self, ask: Ask) -> Option<Request> {
        let plain = |minor, parameters| self.endpoint.request(minor, parameters, ptr::null_mut());
        Some(match ask {
            Ask::Associate => plain(TdiRequest::ASSOCIATE_ADDRESS, [self.address.handle.0, 0, 0, 0]),
            Ask::Disassociate => plain(TdiRequest::DISASSOCIATE_ADDRESS, [0; 4]),
            Ask::Connect => self.connect(),
            Ask::Listen => self.listen(0),
            Ask::Accept => plain(TdiRequest::ACCEPT, [0; 4]),
            Ask::Disconnect(flags) => self.endpoint.start_disconnect(flags, None),
            Ask::Send => self.endpoint.start_send(&self.from, 3, 0),
            Ask::Receive => self.endpoint.start_receive(&self.into, receive_flags::NORMAL),
            Ask::Close => {
                self.close();
                return None;
            }
        })
    }

    /// Shows that the endpoint is in this state, by doing what only works there.
    #[track_caller]
    fn is_in(&self, state: State, context: &str) {
        let Self { endpoint, address, pending, network, .. } = self;
        let pends = || pending.as_ref().filter(|request| !request.is_done()).unwrap_or_else(|| panic!("{context}"));
        let works = || assert_eq!(endpoint.send(b"works"), (NtStatus::SUCCESS, 5), "{context}");
        match state {
            'U' => assert_eq!(endpoint.associate(address), NtStatus::SUCCESS, "{context}"),
            'A' => {
                assert_eq!(endpoint.associate(address), NtStatus::INVALID_CONNECTION, "{context}");
                assert_eq!(endpoint.disassociate(), NtStatus::SUCCESS, "{context}");
            }
            'C' => {
                let connect = pends();
                self.line().finish(Ok(Progress::Established));
                assert_eq!(connect.wait(), (NtStatus::SUCCESS, 0), "{context}");
                works();
            }
            'L' => {
                let listen = pends();
                network.offer(remote());
                assert_eq!(listen.wait(), (NtStatus::SUCCESS, 0), "{context}");
                works();
            }
            'O' => {
                let accept = endpoint.request(TdiRequest::ACCEPT, [0; 4], ptr::null_mut());
                assert_eq!(accept.wait(), (NtStatus::SUCCESS, 0), "{context}");
                works();
            }
            'E' => {
                works();
                self.line().deliver(b"in");
                assert_eq!(endpoint.receive(10).as_deref(), Ok(b"in".as_slice()), "{context}");
                works();
            }
            'R' => {
                let release = pends();
                self.line().deliver(b"in");
                assert_eq!(endpoint.receive(10).as_deref(), Ok(b"in".as_slice()), "{context}");
                assert_eq!(endpoint.send(b"no").0, NtStatus::INVALID_CONNECTION, "{context}");
                self.line().end();
                assert_eq!(release.wait(), (NtStatus::SUCCESS, 0), "{context}");
            }
            'W' => {
                works();
                assert_eq!(endpoint.receive(10).as_deref(), Ok(b"".as_slice()), "{context}");
                assert_eq!(endpoint.release(), NtStatus::SUCCESS, "{context}");
            }
            'Z' => {
                assert_eq!(endpoint.send(b"no"), (NtStatus::CANCELLED, 0), "{context}");
                assert_eq!(endpoint.associate(address), NtStatus::INVALID_CONNECTION, "{context}");
            }
            other => panic!("no state {other}"),
        }
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if !self.is_closed {
                self.endpoint.close_handle();
            }
            self.endpoint.dereference();
            self.address.close(Order::HandleFirst);
            assert!(self.pending.as_ref().is_none_or(Request::is_done), "nothing is left pending");
        }
    }
}

fn check(network: &Script, ask: Ask, state: State, next: State) {
    let context = format!("{ask:?} in {state}");
    let mut world = World::in_state(network, state);
    let asked = world.ask(ask);
    if next == '-' {
        let asked = asked.expect("a request");
        assert_ne!(asked.returned, NtStatus::PENDING, "{context}");
        let (status, information) = asked.wait();
        assert!(!status.is_success() && information == 0, "{context}: {status:?}");
        // A refused connect has not used up what the network would have said to it.
        world.network.forget_attempts();
        return world.is_in(state, &context);
    }
    match (ask, asked) {
        // They wait for the network: what they make is the next state.
        (Ask::Connect | Ask::Listen | Ask::Disconnect(disconnect_flags::RELEASE), Some(asked))
            if "CLR".contains(next) =>
        {
            assert_eq!(asked.returned, NtStatus::PENDING, "{context}");
            world.pending = Some(asked);
        }
        // They wait for something that does not come, and change nothing.
        (Ask::Receive | Ask::Disconnect(disconnect_flags::WAIT), Some(asked))
            if asked.returned == NtStatus::PENDING =>
        {
            assert!(asked.cancel(), "{context}");
            assert_eq!(asked.wait(), (NtStatus::CANCELLED, 0), "{context}");
        }
        (_, Some(asked)) => {
            let expected = if ask == Ask::Send { 3 } else { 0 };
            assert_eq!(asked.wait(), (NtStatus::SUCCESS, expected), "{context}");
        }
        (_, None) => {}
    }
    // What made the state that is left has failed.
    if "AZ".contains(next)
        && let Some(pending) = &world.pending
    {
        assert!(pending.is_done(), "{context}");
        let (status, information) = pending.wait();
        assert!(!status.is_success() && information == 0, "{context}: {status:?}");
    }
    world.is_in(next, &context);
}

#[proves("C-523", "C-253", "C-254", "C-255", "C-263", "C-341")]
#[test]
fn every_request_in_every_state_leads_where_the_rule_s_table_says() {
    for (ask, row) in TABLE {
        for (state, next) in STATES.chars().zip(row.chars()) {
            // There is no handle to close a second time.
            if (ask, state) != (Ask::Close, 'Z') {
                let network = Script::new();
                let shared = Arc::clone(&network);
                with_transport(network, move |_| check(&shared, ask, state, next));
            }
        }
    }
}

/// Why pending requests end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Cancel,
    LocalAbort,
    RemoteRelease,
    RemoteAbort,
    Retransmission,
    Cleanup,
}

/// How a request ends in a cell of table 12.2: with one of these statuses. SUCCESS stands for what was asked.
type Fate = &'static [NtStatus];

const CANCELLED: Fate = &[NtStatus::CANCELLED];
const SUCCESS: Fate = &[NtStatus::SUCCESS];
const BROKEN: Fate = &[NtStatus::CONNECTION_RESET, NtStatus::CONNECTION_ABORTED];
const LOST: Fate = &[NtStatus::IO_TIMEOUT, NtStatus::CONNECTION_ABORTED];
const ENDED_HERE: Fate = &[NtStatus::CANCELLED, NtStatus::CONNECTION_ABORTED];

/// Cause, then CONNECT, LISTEN, SEND, RECEIVE and DISCONNECT(RELEASE) (none where the case cannot be), then the flags
/// of the ClientEventDisconnect of a connection that was established.
const FATES: [(Cause, [Option<Fate>; 5], Option<u32>); 6] = [
    (Cause::Cancel, [Some(CANCELLED); 5], None),
    (Cause::LocalAbort, [Some(ENDED_HERE); 5], None),
    (
        Cause::RemoteRelease,
        [None, None, Some(SUCCESS), Some(SUCCESS), Some(SUCCESS)],
        // Optional while a RELEASE is pending (C-583): see the test.
        Some(disconnect_flags::RELEASE),
    ),
    (
        Cause::RemoteAbort,
        [Some(&[NtStatus::CONNECTION_REFUSED]), None, Some(BROKEN), Some(BROKEN), Some(BROKEN)],
        Some(disconnect_flags::ABORT),
    ),
    (
        Cause::Retransmission,
        [
            Some(&[NtStatus::IO_TIMEOUT]),
            None,
            Some(LOST),
            Some(&[NtStatus::CONNECTION_ABORTED]),
            Some(&[NtStatus::IO_TIMEOUT]),
        ],
        Some(disconnect_flags::ABORT),
    ),
    (Cause::Cleanup, [Some(CANCELLED); 5], None),
];

/// Has `cause` end what is pending on the endpoint.
fn bring_about(world: &mut World<'_>, cause: Cause, state: State, pending: &[&Request]) {
    let fail = |error| if state == 'C' { world.line().finish(Err(error)) } else { world.line().fail(error) };
    match cause {
        Cause::Cancel => pending.iter().for_each(|request| assert!(request.cancel())),
        Cause::LocalAbort => assert_eq!(world.endpoint.abort(), NtStatus::SUCCESS),
        Cause::RemoteRelease => {
            world.line().end();
            world.line().open_window(100);
        }
        Cause::RemoteAbort => fail(NetError::Reset),
        Cause::Retransmission => fail(NetError::TimedOut),
        Cause::Cleanup => world.close(),
    }
}

#[track_caller]
fn ends_as(request: &Request, fate: Fate, done: u64, context: &str) {
    let (status, information) = request.wait();
    assert!(fate.contains(&status), "{context}: {status:?}");
    // What has moved no byte reports none (C-527).
    assert_eq!(information, if status.is_success() { done } else { 0 }, "{context}");
}

#[proves("C-525", "C-526", "C-527", "C-399", "C-576")]
#[test]
fn pending_requests_end_as_the_rule_s_table_says() {
    for (cause, [connect, listen, send, receive, release], gone) in FATES {
        let run = |test: &(dyn Fn(&Script) + Sync)| {
            let network = Script::new();
            let shared = Arc::clone(&network);
            with_transport(network, move |_| test(&shared));
        };
        for (state, fate) in [('C', connect), ('L', listen)] {
            let Some(fate) = fate else { continue };
            run(&|network| {
                let client = Client::new();
                let mut world = World::in_state(network, state);
                client.listen_to(&world.address, &[TdiEvent::DISCONNECT]);
                let pending = world.pending.take().expect("the request that makes the state");
                bring_about(&mut world, cause, state, &[&pending]);
                ends_as(&pending, fate, 0, &format!("{cause:?} in {state}"));
                assert_eq!(client.seen(), [], "{cause:?} in {state}: not while setting up");
            });
        }
        // An established connection with all the rest pending at once, and one without a RELEASE.
        for with_release in [true, false] {
            run(&|network| {
                let context = format!("{cause:?}, release: {with_release}");
                let client = Client::new();
                let mut world = World::in_state(network, 'E');
                client.listen_to(&world.address, &[TdiEvent::DISCONNECT]);
                world.line().shut_window();
                let (sending, receiving) = (world.ask(Ask::Send), world.ask(Ask::Receive));
                let releasing = with_release.then(|| world.ask(Ask::Disconnect(disconnect_flags::RELEASE)));
                let all: Vec<Request> = [sending, receiving, releasing.flatten()].into_iter().flatten().collect();
                assert!(all.iter().all(|request| request.returned == NtStatus::PENDING), "{context}");
                // Cancelled in this order, the RELEASE has nothing to wait for but the remote node.
                bring_about(&mut world, cause, 'E', &all.iter().collect::<Vec<_>>());
                let fates = [(send, 3), (receive, 0), (release, 0)];
                for (request, (fate, done)) in all.iter().zip(fates) {
                    ends_as(request, fate.expect("a fate"), done, &context);
                }
                let expected: Vec<Seen> =
                    gone.into_iter().map(|flags| Seen::Disconnected { context: 1, flags }).collect();
                if expected.is_empty() {
                    assert_eq!(client.seen(), [], "{context}");
                } else if cause == Cause::RemoteRelease && with_release {
                    let seen = client.seen();
                    assert!(seen.is_empty() || seen == expected, "{context}: {seen:?}");
                } else {
                    assert_eq!(client.wait_for(|seen| !seen.is_empty()), expected, "{context}");
                }
            });
        }
    }
}

#[proves("C-525", "C-377")]
#[test]
fn local_release_sends_what_is_queued_and_leaves_the_receives() {
    let network = Script::new();
    let shared = Arc::clone(&network);
    with_transport(network, move |_| {
        let mut world = World::in_state(&shared, 'E');
        world.line().shut_window();
        let (sending, receiving) = (world.ask(Ask::Send).expect("a send"), world.ask(Ask::Receive).expect("a receive"));
        let releasing = world.ask(Ask::Disconnect(disconnect_flags::RELEASE)).expect("a release");
        assert_eq!(world.endpoint.send(b"late"), (NtStatus::INVALID_CONNECTION, 0));
        world.line().open_window(100);
        assert_eq!(sending.wait(), (NtStatus::SUCCESS, 3));
        assert_eq!(world.line().sent(), b"out");
        assert!(!receiving.is_done() && !releasing.is_done());
        world.line().deliver(b"in");
        assert_eq!(receiving.wait(), (NtStatus::SUCCESS, 2));
        assert!(!releasing.is_done());
        world.line().end();
        assert_eq!(releasing.wait(), (NtStatus::SUCCESS, 0));
    });
}
