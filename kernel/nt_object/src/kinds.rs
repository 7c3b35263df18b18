//! Object types: what happens when handles and references of an object go.

use std::sync::atomic::{AtomicU64, Ordering};

/// A type of object, declared as a static by the crate that owns it.
///
/// Drivers see a type as the address of an opaque block through an exported pointer (K-157). The block
/// begins with a pointer to itself: mingw-w64 declares these exports `dllimport` and so dereferences once
/// more than Microsoft's headers do, and with this block both arrive at the same address.
#[derive(Debug)]
pub struct ObjectType {
    /// NT's name, such as `File`.
    pub name: &'static str,
    /// The last reference is gone: free what the body owns. PASSIVE_LEVEL, no locks held.
    pub delete: fn(body: u64),
    /// A handle was closed and `remaining` are left. PASSIVE_LEVEL, no locks held; the handle's reference
    /// still stands.
    pub handle_closed: fn(body: u64, remaining: i64),
    block: [AtomicU64; 4],
}

impl ObjectType {
    /// A type with its two callbacks.
    pub const fn new(name: &'static str, delete: fn(u64), handle_closed: fn(u64, i64)) -> Self {
        Self { name, delete, handle_closed, block: [const { AtomicU64::new(0) }; 4] }
    }

    /// A type of which closing a handle means nothing more.
    pub const fn simple(name: &'static str, delete: fn(u64)) -> Self {
        Self::new(name, delete, |_, _| {})
    }

    /// The address that drivers know the type by.
    pub fn block(&'static self) -> u64 {
        let address = self.block.as_ptr() as u64;
        // Only once: every look-up of a handle comes here, and a store would take the line from all other processors.
        if self.block[0].load(Ordering::Relaxed) != address {
            self.block[0].store(address, Ordering::Relaxed);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "reads the block as a driver would")]
    fn type_block_begins_with_its_own_address() {
        static KIND: ObjectType = ObjectType::simple("Test", |_| {});
        let block = KIND.block();
        // SAFETY: the block is a static of this test.
        assert_eq!(unsafe { *(block as *const u64) }, block);
    }
}
