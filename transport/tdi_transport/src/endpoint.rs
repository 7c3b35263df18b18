//! What the transport keeps of a connection endpoint beside its state machine.

use std::sync::Arc;

use net_api::{Connection, Key};
use nt_abi::FileObject;
use tdi_core::transport_address::Family;
use tdi_core::{AddressId, ConnectionNumber, Endpoint, Instant};
use trace::{Event, Farewell};

use crate::options::ConnectionOptions;
use crate::table::Name;
use crate::transport;

/// One per file object, in the table of endpoints. It outlives the file object while something is out at the
/// client.
pub(crate) struct EndpointState {
    pub(crate) core: Endpoint,
    /// The file object, to tell it from others and for events. Never followed.
    pub(crate) file: u64,
    pub(crate) link: Option<Link>,
    /// What its connections are to be like.
    pub(crate) options: ConnectionOptions,
    /// Who is in a client call for this endpoint right now.
    pub(crate) caller: Caller,
    /// Who waits until nothing is out any more; rarely anybody.
    pub(crate) awaited: Option<Box<Awaited>>,
    /// The deadline that is in the timers, `u64::MAX` if none is.
    pub(crate) timer: u64,
    /// CLOSE has come: the state goes as soon as nothing is out.
    pub(crate) is_closed: bool,
    pub(crate) family: Family,
}

// There may be a hundred thousand endpoints that wait: what few of them need is boxed.
const _: () = assert!(size_of::<EndpointState>() <= 376);

/// Who waits until nothing of an endpoint is out at its client any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awaited {
    /// The endpoint's CLEANUP, 0 if it does not wait.
    pub(crate) cleanup: u64,
    /// An address whose CLEANUP waits.
    pub(crate) address: Option<AddressId>,
}

/// Who runs client code: a `KTHREAD`, 0 for nobody. Its lowest bit says that the thread is at DISPATCH_LEVEL, where
/// waiting for another caller could go round in a circle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller(u64);

/// The network's side of an endpoint's connection.
pub(crate) struct Link {
    pub(crate) connection: Arc<dyn Connection>,
    pub(crate) number: ConnectionNumber,
    /// The low part of the key that the network knows it by.
    pub(crate) serial: u32,
    pub(crate) phase: Phase,
    pub(crate) said: Said,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The remote node has not answered yet.
    Attempt,
    /// A remote node's, which the client has not accepted yet.
    Offered,
    /// ... and which it has accepted; the remote node has not confirmed the answer yet.
    Answered,
    /// In use.
    Established,
}

/// What was recorded of a connection, so that it is recorded once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Said {
    /// The network reports what happens to it.
    pub(crate) watched: bool,
    pub(crate) told_fin: bool,
    pub(crate) remote_ended: bool,
}

impl Caller {
    /// The calling thread.
    pub(crate) fn here(is_raised: bool) -> Self {
        Self(gate::thread::current_thread_object() | u64::from(is_raised))
    }

    /// Whether it is the calling thread.
    pub(crate) fn is_here(self) -> bool {
        self.0 & !1 != 0 && self.0 & !1 == gate::thread::current_thread_object()
    }
}

impl EndpointState {
    pub(crate) fn new(core: Endpoint, file: *mut FileObject, family: Family) -> Self {
        Self {
            core,
            file: file as u64,
            link: None,
            options: ConnectionOptions::default(),
            caller: Caller::default(),
            awaited: None,
            timer: u64::MAX,
            is_closed: false,
            family,
        }
    }

    /// Something comes in now: the clock is read once for each input.
    pub(crate) fn tick(&mut self) -> Instant {
        self.core.set_now(transport::now());
        self.core.now()
    }

    /// The CLEANUP that waits until nothing is out any more, 0 if none does.
    pub(crate) fn cleanup(&self) -> u64 {
        self.awaited.as_ref().map_or(0, |awaited| awaited.cleanup)
    }

    /// The address whose CLEANUP waits for the same.
    pub(crate) fn awaited_by(&self) -> Option<AddressId> {
        self.awaited.as_ref()?.address
    }

    /// The connection, if it is the one with this number.
    pub(crate) fn link(&mut self, number: ConnectionNumber) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.number == number)
    }

    /// The port that it is connected from, for its address to have, too.
    pub(crate) fn connected_port(&self) -> Option<u16> {
        self.link.as_ref().filter(|link| link.phase == Phase::Established)?.connection.share_port()
    }

    /// The remote node has ended its side: recorded once.
    pub(crate) fn remote_ended(&mut self, farewell: Farewell) {
        let file = self.file;
        if let Some(link) = &mut self.link
            && link.phase == Phase::Established
            && !std::mem::replace(&mut link.said.remote_ended, true)
        {
            gate::record(Event::RemoteEnded { endpoint: file, farewell });
        }
    }
}

/// Which of the transport's things a key names: the upper two bits. The value 3 is left to the networks.
const KIND_SHIFT: u32 = 62;
const KIND_ENDPOINT: u64 = 0;
const KIND_ADDRESS: u64 = 1;
const KIND_LISTENER: u64 = 2;

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The endpoint in this slot, if its connection still has this serial number.
    Endpoint { index: u32, serial: u32 },
    /// The address for datagrams in this slot, if it still has this generation.
    Address { index: u32, generation: u32 },
    /// What takes offers, in this slot of the table of those that listen, likewise.
    Listener { index: u32, generation: u32 },
}

/// The key of a connection.
pub(crate) const fn endpoint_key(index: u32, serial: u32) -> Key {
    Key(KIND_ENDPOINT << KIND_SHIFT | (index as u64) << 32 | serial as u64)
}

/// The key of what takes offers.
pub(crate) const fn listener_key(name: Name) -> Key {
    Key(KIND_LISTENER << KIND_SHIFT | (name.index as u64) << 32 | name.generation as u64)
}

/// The key of an address that takes datagrams.
pub(crate) const fn address_key(id: AddressId) -> Key {
    Key(KIND_ADDRESS << KIND_SHIFT | (id.index as u64) << 32 | id.generation as u64)
}

/// What a key names; `None` for keys of no kind of ours.
pub(crate) const fn named(key: Key) -> Option<Named> {
    let (index, low) = ((key.0 >> 32) as u32 & 0x3FFF_FFFF, key.0 as u32);
    match key.0 >> KIND_SHIFT {
        KIND_ENDPOINT => Some(Named::Endpoint { index, serial: low }),
        KIND_ADDRESS => Some(Named::Address { index, generation: low }),
        KIND_LISTENER => Some(Named::Listener { index, generation: low }),
        _ => None,
    }
}
