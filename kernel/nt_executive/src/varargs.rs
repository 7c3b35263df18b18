//! The arguments of a variadic call, and of a `va_list`, which for x64 is the same thing: one 64-bit word each.

use gate::memory::{self, Fault};

use crate::format::Arguments;

/// Argument words in driver memory.
#[derive(Debug)]
pub struct Words {
    next: u64,
    fault: Option<Fault>,
}

impl Words {
    /// Words from `address` on.
    pub fn new(address: u64) -> Self {
        Self { next: address, fault: None }
    }

    /// The next word; 0 when the list itself cannot be read, which [`Words::fault`] then tells.
    pub fn take(&mut self) -> u64 {
        let word = memory::read_value(self.next);
        self.next = self.next.wrapping_add(8);
        word.unwrap_or_else(|fault| {
            self.fault.get_or_insert(fault);
            0
        })
    }

    /// Where the list could not be read.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }
}

impl Arguments for Words {
    fn next(&mut self) -> u64 {
        self.take()
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        memory::read(address, into).is_ok()
    }
}
