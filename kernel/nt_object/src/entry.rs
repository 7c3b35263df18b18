//! One entry of the handle table: how it comes to stand for an object, is looked up without a lock, and is freed.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// One open handle.
#[repr(C)]
pub(crate) struct Entry {
    /// The object's body, 0 while free.
    body: AtomicU64,
    caller: AtomicU64,
    access: AtomicU32,
    /// The handle's high bits, as [`crate::tag_bits`] gave them: kernel and other handles differ.
    kernel: AtomicU32,
}

impl Entry {
    /// One that stands for nothing. The table's own are zero bytes, which is the same.
    #[allow(dead_code, reason = "models make theirs one by one")]
    pub(crate) fn free() -> Self {
        Self {
            body: AtomicU64::new(0),
            caller: AtomicU64::new(0),
            access: AtomicU32::new(0),
            kernel: AtomicU32::new(0),
        }
    }

    /// Makes a free entry one for an object, of which the handle holds a reference.
    pub(crate) fn publish(&self, body: u64, access: u32, kernel: bool, caller: u64) {
        // Orders the end of the handle before in front of everything below: who sees any of this sees that one gone.
        fence(Ordering::Release);
        self.caller.store(caller, Ordering::Relaxed);
        self.access.store(access, Ordering::Relaxed);
        self.kernel.store(u32::from(kernel), Ordering::Relaxed);
        // Release: whoever finds the body finds the rest of the entry.
        self.body.store(body, Ordering::Release);
    }

    /// References the object and gives its body and the access it was opened with. `None` for an entry that is free, or
    /// becomes so meanwhile.
    ///
    /// `try_reference` answers for any address that ever was a body: whether it is alive, and then has a reference more.
    pub(crate) fn reference(
        &self,
        try_reference: impl FnOnce(u64) -> bool,
        dereference: impl FnOnce(u64),
    ) -> Option<(u64, u32)> {
        let body = self.body.load(Ordering::Acquire);
        if body == 0 || !try_reference(body) {
            return None;
        }
        let access = self.access.load(Ordering::Relaxed);
        // With the fence in `publish`: an access of the next handle comes with the sight of this one's end.
        fence(Ordering::Acquire);
        if self.body.load(Ordering::Relaxed) != body {
            // The handle was closed in between; what we referenced may even be another object by now.
            dereference(body);
            return None;
        }
        Some((body, access))
    }

    /// Ends the handle: gives the object, whose reference is the caller's now. Of several callers one gets it.
    pub(crate) fn take(&self) -> Option<u64> {
        Some(self.body.swap(0, Ordering::AcqRel)).filter(|&body| body != 0)
    }

    /// The object, if there is one.
    pub(crate) fn body(&self) -> Option<u64> {
        Some(self.body.load(Ordering::Acquire)).filter(|&body| body != 0)
    }

    /// Whether the handle is one of the kernel's.
    pub(crate) fn is_kernel(&self) -> bool {
        self.kernel.load(Ordering::Acquire) != 0
    }

    /// The access the handle was opened with.
    pub(crate) fn access(&self) -> u32 {
        self.access.load(Ordering::Relaxed)
    }

    /// The driver instruction that opened the handle.
    pub(crate) fn caller(&self) -> u64 {
        self.caller.load(Ordering::Relaxed)
    }
}

const _: () = assert!(crate::sync::IS_MODEL || size_of::<Entry>() == 24);
