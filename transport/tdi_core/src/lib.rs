//! TDI connection endpoints, transport addresses and their requests as pure state machines.
//!
//! No operating system, clock, thread, pointer or lock: requests and network events go in with the
//! time, outputs are polled. One [`Endpoint`] per connection endpoint and one [`Address`] per opened
//! transport address, each under its own lock of the caller (order: endpoint before address).
//!
//! # How to drive an endpoint
//! ```text
//! lock; handle_request / handle_network / handle_cancel / handle_timeout / handle_cleanup ...;
//! while let Some(output) = poll_output() {
//!     Network(command)  carry it out at once, without blocking; answer transfers with handle_sent,
//!                       handle_filled, handle_read_ahead or handle_copied
//!     Address(message)  lock the address, give it the message (or defer until unlocked)
//!     Complete(c)       unlock; complete the request; lock; handle_completion_delivered(c.id)
//!     Indicate(i)       unlock; call the handler; lock; handle_indication_result(..)
//! }
//! set a timer for poll_timeout(); unlock
//! ```
//! **One client call at a time**: while a completion or an indication is out, `poll_output` gives
//! no other; it still gives network commands. So a request made inside a handler or completion
//! routine works at once on the network, its completion follows when the outer call has returned,
//! nothing recurses, and completions and indications of one endpoint have one order on every
//! thread (C-397, C-423, C-425, C-450, C-580). Whoever reports the delivery goes on polling.
//! A caller may leave the loop early and come back.
//!
//! # Which request is done by whom
//! Everything that names a handle, a pointer or an IRP is the caller's: resolving handles,
//! checking MDLs, cancel routines. A request is in the core between [`Outcome::Taken`] and its
//! one [`Completion`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
pub mod endpoint;
pub mod ids;
pub mod indication;
pub mod network;
pub mod open;
mod queue;
pub mod request;
pub mod sharing;
mod short_address;
pub mod status;
pub mod table;
pub mod time;
pub mod transport_address;

pub use address::{Address, AddressOutput, ConnectAnswer};
pub use endpoint::{AddressMessage, Config, Endpoint, OfferAnswer, Output};
pub use ids::{AddressId, ConnectionNumber, EndpointId, OfferId, RequestId};
pub use indication::{ClientFault, ConnectionHandlers, Handler, Indication, IndicationResult, ReturnedReceive};
pub use network::{DataKind, NetworkCommand, NetworkError, NetworkEvent, Offer, Progress};
pub use request::{Completion, Outcome, RemoteFilter, Request};
pub use table::StateName;
pub use time::{Instant, relative_timeout};
