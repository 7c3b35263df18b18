//! Raising and lowering the level (K-120).

use nt_abi::Irql;

use crate::dpc;

/// Raises to DISPATCH_LEVEL, if the level is not that high, and gives the level before.
#[inline]
pub(crate) fn raise_to_dispatch() -> Irql {
    let old = gate::irql();
    if old < Irql::DISPATCH {
        gate::set_irql(Irql::DISPATCH);
    }
    old
}

/// Lowers to `level` and runs the DPCs that waited for that. For exports; no lock of the host may be held.
#[inline]
pub(crate) fn lower(level: Irql) {
    gate::set_irql(level);
    dpc::after_lowering(level);
}

/// Raises to `level` until dropped, for host code that acts as a driver would. Raising to a lower level does nothing.
/// Dropping it runs the DPCs that waited for that, so no lock of the host may be held then.
#[derive(Debug)]
pub struct Raised {
    old: Irql,
}

impl Raised {
    /// Raises the calling thread's level.
    pub fn to(level: Irql) -> Self {
        let old = gate::irql();
        if level > old {
            gate::set_irql(level);
        }
        Self { old }
    }

    /// The level before.
    pub fn old(&self) -> Irql {
        self.old
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        lower(self.old);
    }
}
