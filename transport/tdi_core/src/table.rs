//! The state machine of a connection endpoint as data (chapter 11).
//!
//! [`REQUESTS`] is table 11.1: [`crate::Endpoint`] asks it before it does anything, so an illegal request
//! is refused here and nowhere else. [`EVENTS`] is table 11.2. In debug builds every change of
//! state is looked up in the two. Where table 11.1 leaves a choice ("err or ..."), this one has
//! made it: DISASSOCIATE while active is refused, DISCONNECT while idle is refused, DISCONNECT WAIT
//! pends in every active state until the remote node has disconnected (C-335): success before there is a
//! connection would tell its client of an end that has not come. RELEASE and
//! SEND_AND_DISCONNECT in state W pass through R until what is queued has been transmitted: there
//! sends are illegal and receives are legal, which is what R means.

mod export;

use crate::status::Situation;

pub use export::{graph, markdown};

/// The states of chapter 11 under plain names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// U: open, not associated, idle.
    Unassociated,
    /// A: associated, idle.
    Associated,
    /// C: a TDI_CONNECT is pending.
    Connecting,
    /// L: a TDI_LISTEN is pending.
    Listening,
    /// O: a listen with QUERY_ACCEPT completed, no answer yet.
    Offered,
    /// P: an accept is in progress.
    Accepting,
    /// E: established.
    Established,
    /// R: the local side has released; the remote side has not, or queued sends are still under way.
    LocallyReleased,
    /// W: the remote side has released, the local side has not.
    RemotelyReleased,
    /// Z: CLEANUP processed, CLOSE not yet.
    CleanedUp,
}

use StateName::{
    Accepting, Associated, CleanedUp, Connecting, Established, Listening, LocallyReleased, Offered, RemotelyReleased,
    Unassociated,
};

impl StateName {
    /// All states, in the order of the columns of [`REQUESTS`].
    pub const ALL: [Self; 10] = [
        Unassociated,
        Associated,
        Connecting,
        Listening,
        Offered,
        Accepting,
        Established,
        LocallyReleased,
        RemotelyReleased,
        CleanedUp,
    ];

    /// The letter of chapter 11.
    pub const fn letter(self) -> char {
        match self {
            Unassociated => 'U',
            Associated => 'A',
            Connecting => 'C',
            Listening => 'L',
            Offered => 'O',
            Accepting => 'P',
            Established => 'E',
            LocallyReleased => 'R',
            RemotelyReleased => 'W',
            CleanedUp => 'Z',
        }
    }

    /// Is this an active state (C-518)?
    pub const fn is_active(self) -> bool {
        !matches!(self, Unassociated | Associated | CleanedUp)
    }
}

/// What a client can do to an endpoint: the rows of table 11.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// TDI_ASSOCIATE_ADDRESS.
    Associate,
    /// TDI_DISASSOCIATE_ADDRESS.
    Disassociate,
    /// TDI_CONNECT.
    Connect,
    /// TDI_LISTEN.
    Listen,
    /// TDI_ACCEPT as a request.
    Accept,
    /// TDI_ACCEPT as the IRP returned by ClientEventConnect.
    AcceptIrp,
    /// TDI_DISCONNECT with flags 0 or ABORT.
    DisconnectAbort,
    /// TDI_DISCONNECT with RELEASE.
    DisconnectRelease,
    /// TDI_DISCONNECT with WAIT.
    DisconnectWait,
    /// TDI_SEND.
    Send,
    /// TDI_SEND with TDI_SEND_AND_DISCONNECT (C-373).
    SendAndDisconnect,
    /// TDI_RECEIVE.
    Receive,
    /// Last handle closed.
    Cleanup,
}

/// What a request does in a state: the cells of table 11.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fails, nothing changes (C-523).
    Refused(Situation),
    /// Legal, the state stays; it may pend.
    Stays,
    /// SUCCESS, and nothing happens (C-336).
    NoEffect,
    /// It succeeds at once and the endpoint is in that state.
    Becomes(StateName),
    /// It pends, and the endpoint is in that state meanwhile.
    Pends(StateName),
}

/// One row of table 11.1, a cell per state.
pub type Row = [Verdict; 10];

const fn no(situation: Situation) -> Verdict {
    Verdict::Refused(situation)
}

const GONE: Verdict = no(Situation::CleanedUp);
const OK: Verdict = Verdict::Stays;
const NOP: Verdict = Verdict::NoEffect;
const TO_A: Verdict = Verdict::Becomes(Associated);
const TO_Z: Verdict = Verdict::Becomes(CleanedUp);

/// Table 11.1 (C-519): a row per request, a cell per state.
pub const REQUESTS: [(RequestKind, Row); 13] = {
    use Situation as S;
    use Verdict::{Becomes, Pends};
    let twice = no(S::AlreadyAssociated);
    let active = no(S::StillActive);
    let unbound = no(S::SetupNotAssociated);
    let busy = no(S::SetupNotIdle);
    let none = no(S::NothingOffered);
    let unfit = no(S::AcceptIrpNotIdle);
    let idle = no(S::NoConnection);
    let again = no(S::AlreadyReleased);
    let apart = no(S::SendNotConnected);
    let late = no(S::SendAfterRelease);
    let deaf = no(S::ReceiveNotConnected);
    let r = Pends(LocallyReleased);
    let heed = Verdict::Stays;
    [
        //                               U                     A                    C      L      O                 P      E      R      W      Z
        (
            RequestKind::Associate,
            [TO_A, twice, twice, twice, twice, twice, twice, twice, twice, no(S::AssociateCleanedUp)],
        ),
        (
            RequestKind::Disassociate,
            [
                no(S::NotAssociated),
                Becomes(Unassociated),
                active,
                active,
                active,
                active,
                active,
                active,
                active,
                no(S::NotAssociated),
            ],
        ),
        (RequestKind::Connect, [unbound, Pends(Connecting), busy, busy, busy, busy, busy, busy, busy, GONE]),
        (RequestKind::Listen, [unbound, Pends(Listening), busy, busy, busy, busy, busy, busy, busy, GONE]),
        (RequestKind::Accept, [none, none, none, none, Pends(Accepting), none, none, none, none, GONE]),
        (RequestKind::AcceptIrp, [unfit, Pends(Accepting), unfit, unfit, unfit, unfit, unfit, unfit, unfit, GONE]),
        (RequestKind::DisconnectAbort, [idle, idle, TO_A, TO_A, TO_A, TO_A, TO_A, TO_A, TO_A, GONE]),
        (RequestKind::DisconnectRelease, [idle, idle, TO_A, TO_A, TO_A, TO_A, r, again, r, GONE]),
        (RequestKind::DisconnectWait, [idle, idle, heed, heed, heed, heed, heed, heed, heed, GONE]),
        (RequestKind::Send, [apart, apart, apart, apart, apart, apart, OK, late, OK, GONE]),
        (RequestKind::SendAndDisconnect, [apart, apart, apart, apart, apart, apart, r, late, r, GONE]),
        (RequestKind::Receive, [deaf, deaf, deaf, deaf, deaf, deaf, OK, OK, OK, GONE]),
        (RequestKind::Cleanup, [TO_Z, TO_Z, TO_Z, TO_Z, TO_Z, TO_Z, TO_Z, TO_Z, TO_Z, NOP]),
    ]
};

/// The cell for a request in a state.
pub const fn verdict(kind: RequestKind, state: StateName) -> Verdict {
    REQUESTS[kind as usize].1[state as usize]
}

/// What moves an endpoint besides its client's requests: the rows of table 11.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The network has made the connection.
    HandshakeDone,
    /// CONNECT failed on the network, or its time ran out.
    ConnectFailed,
    /// An offer for a listen with flags 0; [`EventKind::ConnectionReady`] follows, usually at once.
    Offer,
    /// An offer for a listen with QUERY_ACCEPT.
    OfferHeld,
    /// The client answered an offer neither way in time.
    ClientSilent,
    /// The remote node gave an offer up.
    OfferWithdrawn,
    /// An accepted connection is up.
    ConnectionReady,
    /// FIN, all data in front of it received.
    RemoteRelease,
    /// FIN, and all data in front of it was delivered or is not wanted; queued sends are transmitted.
    BothReleased,
    /// RST, or retransmissions gave out.
    RemoteAbort,
    /// The time limit of a RELEASE ran out.
    DisconnectTimeout,
    /// A request was cancelled that cannot end without ending what it had begun.
    Cancelled,
    /// The file object of the address was closed.
    AddressClosed,
}

/// One row of table 11.2.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// What happens.
    pub event: EventKind,
    /// In which states.
    pub from: &'static [StateName],
    /// Where the endpoint is afterwards.
    pub to: StateName,
    /// What the client sees.
    pub effect: &'static str,
}

const fn on(event: EventKind, from: &'static [StateName], to: StateName, effect: &'static str) -> Transition {
    Transition { event, from, to, effect }
}

/// Table 11.2 (C-520), with the consequences of cancellation (chapter 7.4) and of closing the
/// address (chapter 6.5) beside it.
pub const EVENTS: [Transition; 18] = [
    on(EventKind::HandshakeDone, &[Connecting], Established, "CONNECT completes SUCCESS"),
    on(EventKind::ConnectFailed, &[Connecting], Associated, "CONNECT completes with an error; no handler is called"),
    on(EventKind::Offer, &[Listening], Accepting, "none until the connection is ready"),
    on(EventKind::OfferHeld, &[Listening], Offered, "LISTEN completes SUCCESS, the offer is held"),
    on(EventKind::ClientSilent, &[Offered], Associated, "the offer is rejected"),
    on(EventKind::OfferWithdrawn, &[Offered], Associated, "none; a later ACCEPT fails"),
    on(EventKind::OfferWithdrawn, &[Accepting], Associated, "ACCEPT or LISTEN completes with an error"),
    on(EventKind::ConnectionReady, &[Accepting], Established, "ACCEPT or LISTEN completes SUCCESS"),
    on(
        EventKind::RemoteRelease,
        &[Established],
        RemotelyReleased,
        "remaining data, pending receives end SUCCESS/0, then ClientEventDisconnect(RELEASE)",
    ),
    on(
        EventKind::BothReleased,
        &[LocallyReleased],
        Associated,
        "pending receives end SUCCESS/0, ClientEventDisconnect(RELEASE) unless it was called, RELEASE completes SUCCESS",
    ),
    on(
        EventKind::RemoteAbort,
        &[Established, RemotelyReleased],
        Associated,
        "pending requests fail, then ClientEventDisconnect(ABORT)",
    ),
    on(
        EventKind::RemoteAbort,
        &[LocallyReleased],
        Associated,
        "pending requests fail, then ClientEventDisconnect(ABORT), then RELEASE fails",
    ),
    on(EventKind::DisconnectTimeout, &[LocallyReleased], Associated, "RELEASE completes with a timeout status"),
    on(EventKind::Cancelled, &[Connecting, Listening, Accepting], Associated, "the request completes CANCELLED"),
    on(
        EventKind::Cancelled,
        &[Established, LocallyReleased, RemotelyReleased],
        Associated,
        "a partly sent SEND completes CANCELLED and takes the connection with it",
    ),
    on(EventKind::AddressClosed, &[Listening], Associated, "LISTEN completes with an error"),
    on(EventKind::AddressClosed, &[Offered], Associated, "the offer is rejected"),
    on(EventKind::AddressClosed, &[Accepting], Associated, "ACCEPT or LISTEN completes with an error"),
];

/// Do the two tables know a way from one state to another?
pub fn leads(from: StateName, to: StateName) -> bool {
    let by_event = || EVENTS.iter().any(|row| row.to == to && row.from.contains(&from));
    let by_request = || {
        REQUESTS
            .iter()
            .any(|(_, row)| matches!(row[from as usize], Verdict::Becomes(next) | Verdict::Pends(next) if next == to))
    };
    from == to || by_event() || by_request()
}
