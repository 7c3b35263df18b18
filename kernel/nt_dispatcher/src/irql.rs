//! Raising and lowering the level (K-120), for host code that acts as a driver would.

use nt_abi::Irql;

/// Raises to `level` until dropped. Raising to a lower level does nothing.
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
        gate::set_irql(self.old);
    }
}
