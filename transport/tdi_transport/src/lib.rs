//! The transport: `\Driver\Tcpip` with `\Device\Tcp` and its sisters, from IRPs to `tdi_core` to a network.
//!
//! A driver object with win64 dispatch routines like any other, so that filters can attach to its devices or hook
//! its dispatch table. Requests are decoded here, addresses claimed, buffers checked; what a request means is
//! decided by `tdi_core`, whose outputs are worked off in [`pump`](mod@pump) and [`offers`].
//!
//! Invariants:
//! - Every IRP completes exactly once, by whoever takes it out of the table of requests.
//! - No lock is held while client code runs. Lock order: endpoint before address before claims or timers.
//! - File objects and IRPs name what is behind them by a number with a generation, which drivers can overwrite but
//!   not abuse; client memory is read and written by guarded copies, or in place while the request owns it.
//! - Sends and receives that finish at once allocate nothing.
//!
//! Start reading at [`dispatch`].

mod address;
mod adopt;
mod announce;
mod carry_out;
mod chained;
mod close;
mod connection_information;
mod control;
mod datagram;
mod datagram_requests;
mod decode;
mod dispatch;
mod endpoint;
mod entities;
mod indicate;
mod mdl;
mod network;
mod offers;
mod open;
mod options;
mod private_codes;
mod pump;
mod report;
mod requests;
mod slab;
mod status;
mod stream_address;
mod table;
mod timers;
mod transport;

pub use report::Leftover;
pub use transport::{Transport, start};
