//! Pool, memory descriptor lists, the run-time libraries, the registry, and the one table of exports.
//!
//! Services that drivers call and that belong to no other crate of the kernel. Each module declares its exports
//! beside their functions; [`table`] gathers them with those of the crates below.
//!
//! Invariants: nothing here calls into a driver while it holds a lock; nothing follows a pointer that a driver could
//! have forged to find its own records.

pub mod bugcheck_callback;
mod c_runtime;
mod cache_aware;
pub mod callback;
mod code_page;
mod debug_print;
mod format;
mod handles;
pub mod lists;
pub mod mdl;
pub mod mm;
pub mod ndis;
pub mod notifications;
pub mod pool;
mod power;
mod process;
mod raise;
pub mod random;
pub mod registry;
mod rtl;
mod section;
mod security;
mod system;
pub mod table;
#[cfg(test)]
mod testing;
pub mod tracing;
mod varargs;

/// Lends this crate's services to those below it. Once, before the first driver runs.
pub fn install() {
    gate::bugcheck::set_callbacks(bugcheck_callback::call_all);
    nt_io::set_services(nt_io::Services {
        allocate: |bytes, caller| pool::allocate(bytes, IO_TAG, pool::Kind::NonPaged, caller),
        // A driver may have put a buffer of its own there, with a tag of its own.
        free: |address| pool::free(address, None, gate::caller()),
        lock: mdl::attach_locked,
        free_mdls: mdl::release_chain,
        key_name: registry::name_of,
    });
}

pub use system::routines::prepare as prepare_routines;

/// The tag of the I/O manager's buffers.
const IO_TAG: pool::Tag = u32::from_le_bytes(*b"IoBu");
