//! Every event that Drydock can record, declared once.
//!
//! An event is a small `Copy` value: what the figure, the verifier, the exporters and the account on the
//! terminal know about a run, they know from these. Identities (`file`, `irp`, `device`, `thread` ...) are
//! the addresses the driver sees; an address can be used again after the matching end event. `endpoint` and
//! `address` are file objects like `file`.
//! Statuses are raw NTSTATUS values so that this crate depends on nothing.

/// How a connection's end was told to the remote node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Farewell {
    /// An orderly end: FIN.
    Fin = 0,
    /// An abortive end: RST.
    Rst = 1,
}

/// Which object an open created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OpenKind {
    /// A device that is not a transport, or not yet known.
    Device = 0,
    /// A TDI transport address.
    TransportAddress = 1,
    /// A TDI connection endpoint.
    ConnectionEndpoint = 2,
    /// A TDI control channel.
    ControlChannel = 3,
}

/// Declares [`Event`], its kinds' names, and the conversion to and from six words.
macro_rules! events {
    ($($(#[$meta:meta])* $name:ident = $code:literal $stamp:ident { $($(#[$field_meta:meta])* $field:ident : $ty:ty),* $(,)? })*) => {
        /// Something that happened in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "fields are documented where their meaning is not their name")]
        pub enum Event { $($(#[$meta])* $name { $($(#[$field_meta])* $field: $ty),* }),* }

        impl Event {
            /// The code written to the ring.
            #[inline]
            pub const fn code(&self) -> u16 {
                match self { $(Self::$name { .. } => $code),* }
            }

            /// The variant's name, as printed in JSON Lines.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => stringify!($name)),* }
            }

            /// Whether the writer reads the clock for this event (9 ns) or lets it share the previous stamp.
            #[inline]
            pub const fn is_stamped(&self) -> bool {
                match self { $(Self::$name { .. } => events!(@stamp $stamp)),* }
            }

            /// How many words the fields take; the rest of a slot is not written.
            #[inline]
            pub const fn word_count(&self) -> usize {
                match self { $(Self::$name { .. } => <[&str]>::len(&[$(stringify!($field)),*])),* }
            }

            /// The fields as words, for the ring.
            #[inline]
            pub fn to_words(&self) -> [u64; 6] {
                match *self {
                    $(Self::$name { $($field),* } => {
                        let mut words = [0u64; 6];
                        let mut _next = words.iter_mut();
                        $(*_next.next().expect("an event has at most six fields") = Word::to_word($field);)*
                        words
                    })*
                }
            }

            /// The inverse of [`Event::to_words`]; `None` for an unknown code or a field out of range,
            /// because rings are read as hostile input.
            pub fn from_words(code: u16, words: [u64; 6]) -> Option<Self> {
                match code {
                    $($code => {
                        let mut _next = words.iter().copied();
                        Some(Self::$name { $($field: Word::from_word(_next.next()?)?),* })
                    })*
                    _ => None,
                }
            }

            /// The fields as name and value, for generic printers.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                match *self {
                    $(Self::$name { $($field),* } => vec![$((stringify!($field), Word::to_word($field))),*]),*
                }
            }
        }
    };
    (@stamp stamped) => { true };
    (@stamp plain) => { false };
}

/// A field that fits one ring word.
trait Word: Sized {
    fn to_word(self) -> u64;
    fn from_word(word: u64) -> Option<Self>;
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }
    fn from_word(word: u64) -> Option<Self> {
        Some(word)
    }
}

impl Word for u32 {
    fn to_word(self) -> u64 {
        u64::from(self)
    }
    fn from_word(word: u64) -> Option<Self> {
        u32::try_from(word).ok()
    }
}

impl Word for Farewell {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(Self::Fin),
            1 => Some(Self::Rst),
            _ => None,
        }
    }
}

impl Word for OpenKind {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> Option<Self> {
        match word {
            0 => Some(Self::Device),
            1 => Some(Self::TransportAddress),
            2 => Some(Self::ConnectionEndpoint),
            3 => Some(Self::ControlChannel),
            _ => None,
        }
    }
}

events! {
    /// The child is about to load drivers. Text: Drydock's version.
    RunStarted = 1 stamped { seeded: u32, seed: u64 }
    /// An image is mapped. Text: file name.
    ImageLoaded = 2 stamped { base: u64, size: u64, driver: u64 }
    /// `DriverEntry` is called. Text: driver name.
    DriverEntryCalled = 3 stamped { driver: u64 }
    DriverEntryReturned = 4 stamped { driver: u64, status: u32 }
    UnloadCalled = 5 stamped { driver: u64 }
    UnloadReturned = 6 stamped { driver: u64 }
    /// An import nobody implements was bound to a stub. Text: `module!name`.
    ImportMissing = 7 plain { driver: u64 }

    /// A driver's or the host's thread runs, recorded by itself as its first event. `start` is the routine's
    /// address, 0 for threads of the host.
    ThreadStarted = 10 stamped { thread: u64, start: u64 }
    ThreadEnded = 11 stamped { thread: u64 }
    /// A thread begins to wait on `object`; recorded only when it really blocks.
    WaitBegun = 12 stamped { thread: u64, object: u64 }
    /// Stamped, because what the thread records next would otherwise seem to happen before the wait.
    WaitEnded = 13 stamped { thread: u64, object: u64, status: u32 }

    /// Text: device name, empty if it has none.
    DeviceCreated = 20 stamped { device: u64, driver: u64 }
    DeviceDeleted = 21 stamped { device: u64 }
    /// `device` now lies over `lower`.
    DeviceAttached = 22 stamped { device: u64, lower: u64 }

    /// A file was opened (or not: then `handle` is 0). Text: the name that was asked for.
    FileOpened = 30 stamped { file: u64, device: u64, handle: u64, status: u32, kind: OpenKind }
    /// `remaining` handles are left on the object.
    HandleClosed = 31 plain { handle: u64, object: u64, remaining: u32 }
    /// Off by default.
    ObjectReferenced = 32 plain { object: u64, count: u64 }
    /// Off by default.
    ObjectDereferenced = 33 plain { object: u64, count: u64 }
    FileDeleted = 34 plain { file: u64 }

    /// An IRP enters a driver. `functions` is major << 8 | minor; `detail` is the IOCTL code, the TDI
    /// length or flags, whatever says most about the request; `routine` is the driver's dispatch routine, 0 for one of the host's.
    IrpDispatched = 40 stamped { irp: u64, device: u64, file: u64, functions: u32, detail: u64, routine: u64 }
    /// The dispatch routine returned.
    IrpReturned = 41 plain { irp: u64, status: u32 }
    /// The IRP was completed by the driver that held it.
    IrpCompleted = 42 plain { irp: u64, status: u32, information: u64 }
    /// As [`Event::IrpCompleted`], for a request that had been pending, so the time differs.
    IrpCompletedLater = 43 stamped { irp: u64, status: u32, information: u64 }
    IrpCancelled = 44 stamped { irp: u64 }

    /// The transport calls an event handler: `event` is the TDI event code, `context` the connection
    /// context, `bytes` what is indicated, or the disconnect flags.
    Indicated = 50 stamped { endpoint: u64, event: u32, context: u64, bytes: u64 }
    /// The handler returned.
    IndicationReturned = 51 plain { endpoint: u64, status: u32, taken: u64 }
    /// The transport's word for it, whether by request or, for the end, by cleanup.
    EndpointAssociated = 52 plain { endpoint: u64, address: u64 }
    EndpointDisassociated = 53 plain { endpoint: u64 }

    /// The transport asked the network for a connection. Text: the remote address.
    ConnectStarted = 60 stamped { endpoint: u64 }
    /// Text: the remote address.
    Connected = 61 stamped { endpoint: u64 }
    ConnectFailed = 62 stamped { endpoint: u64, status: u32 }
    BytesSent = 63 plain { endpoint: u64, bytes: u64 }
    BytesReceived = 64 plain { endpoint: u64, bytes: u64 }
    /// The remote node's transport was told that the connection is over.
    RemoteTold = 65 stamped { endpoint: u64, farewell: Farewell }
    /// The remote node ended its side.
    RemoteEnded = 66 stamped { endpoint: u64, farewell: Farewell }

    /// Text: what the driver printed. `caller` is where the call returns to.
    DebugPrint = 70 stamped { level: u32, caller: u64 }
    /// A rule was broken. `driver` is the image base and `offset` the place in it, 0 if unknown.
    /// Text: the rule's id, a tab, the message.
    Finding = 71 stamped { driver: u64, offset: u64 }
    /// Text: the message.
    HostNote = 72 stamped {}

    /// Off by default.
    PoolAllocated = 80 plain { address: u64, bytes: u64, tag: u32 }
    /// Off by default.
    PoolFreed = 81 plain { address: u64 }

    RunEnded = 90 stamped {}
    /// Made by the reader, never recorded: from here on about `count` events of this thread's ring are missing, until
    /// the next [`Event::EventsResumed`].
    EventsLost = 91 stamped { count: u64 }
    /// Made by the reader, never recorded: from here on the ring with the last [`Event::EventsLost`] is whole again.
    EventsResumed = 92 stamped {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_survives_the_trip_through_words() {
        let event = Event::FileOpened { file: 1, device: 2, handle: 3, status: 4, kind: OpenKind::ConnectionEndpoint };
        assert_eq!(Event::from_words(event.code(), event.to_words()), Some(event));
    }

    #[test]
    fn field_out_of_range_is_refused() {
        let event = Event::RemoteTold { endpoint: 1, farewell: Farewell::Rst };
        assert_eq!(Event::from_words(event.code(), [1, 9, 0, 0, 0, 0]), None);
    }
}
