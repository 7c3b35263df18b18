//! Kernel objects: headers with two counts, types, handles and the namespace.
//!
//! Invariants:
//! - A body is followed only after its header was found live in one of this crate's arenas; headers lie in
//!   front of the bodies, where drivers do not know of them.
//! - Each open handle accounts for one reference (C-120). A handle's type is told of its close *before*
//!   that reference goes, so CLEANUP always precedes CLOSE (C-135).
//! - Deletion runs at PASSIVE_LEVEL: above it, it is handed to the hook of [`set_deferred_delete`] (C-142).
//!
//! Rules: C-120 to C-128, K-155 to K-160. Left out: quotas, and looking at security descriptors, which are only kept;
//! nobody who loads a single driver can tell.

mod entry;
mod handle;
mod kinds;
mod namespace;
mod object;
pub mod pattern;
mod security;

/// What `entry` shares words by; `tests/models` puts loom in its place.
mod sync {
    pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    /// Whether words are as large as they look.
    pub const IS_MODEL: bool = false;
}

pub use handle::{HandleEntry, close, for_each_open, insert, peek_by_handle, reference_by_handle, tag_bits};
pub use kinds::ObjectType;
pub use namespace::{
    Found, for_each_link, insert_link, insert_object, lookup, lookup_link, name_of, place, remove, upcase,
};
pub use object::{
    allocating_caller, create, dereference, for_each_live, handle_count, is_live, pointer_count, reference,
    release_thread_caches, set_deferred_delete, try_reference, type_of,
};
pub use security::{change_descriptor, descriptor};
