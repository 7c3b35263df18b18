//! Generic tables: ordered trees whose nodes the driver allocates and compares.
//!
//! Two kinds, as the DDK has two: splay trees (`RTL_GENERIC_TABLE`, with the bare `RtlSplay` ... beneath them) and AVL
//! trees (`RTL_AVL_TABLE`). Nodes and tables are the driver's memory and are followed as they are: a damaged tree faults
//! and is blamed on the call. Routines of the driver are called while nothing is locked; serialising is the driver's
//! business, as it is in Windows.

mod avl;
mod avl_table;
mod generic_table;
mod links;
mod splay;
#[cfg(test)]
mod testing;

/// The tables of this module's parts.
pub(crate) static TABLES: [&[gate::export::Export]; 3] = [avl_table::TABLE, generic_table::TABLE, splay::TABLE];

/// Outcomes of a comparison (`RTL_GENERIC_COMPARE_RESULTS`).
mod order {
    pub const LESS: u32 = 0;
    pub const GREATER: u32 = 1;
}

/// Where a search ended (`TABLE_SEARCH_RESULT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Found {
    Empty = 0,
    Node = 1,
    InsertLeft = 2,
    InsertRight = 3,
}

impl Found {
    fn of(word: u32) -> Self {
        match word {
            1 => Self::Node,
            2 => Self::InsertLeft,
            3 => Self::InsertRight,
            _ => Self::Empty,
        }
    }
}

/// What both kinds of table hold of the driver's routines.
#[derive(Clone, Copy, Debug)]
struct Routines {
    table: u64,
    compare: u64,
    allocate: u64,
    free: u64,
}

impl Routines {
    /// How an element compares with another, in the driver's opinion; `None` if an exception passes the routine.
    unsafe fn compare(self, a: u64, b: u64) -> Option<u32> {
        // SAFETY: the driver initialised the table with this routine.
        let answer = unsafe { gate::call::call3(self.compare, self.table, a, b) as u32 };
        (!gate::seh::is_leaving()).then_some(answer)
    }

    /// Memory for a node; 0 if there is none, or if an exception passes this routine or passed a comparison.
    unsafe fn allocate(self, bytes: u32) -> u64 {
        if gate::seh::is_leaving() {
            return 0;
        }
        // SAFETY: the driver initialised the table with this routine.
        let made = unsafe { gate::call::call2(self.allocate, self.table, bytes.into()) };
        if gate::seh::is_leaving() { 0 } else { made }
    }

    unsafe fn free(self, node: u64) {
        // SAFETY: the driver initialised the table with this routine.
        unsafe { gate::call::call2(self.free, self.table, node) };
    }

    /// Looks for an element below `node`: the last node met, and where from there the element belongs.
    unsafe fn find(self, mut node: *mut links::Links, element: u64, data: u64) -> (*mut links::Links, Found) {
        if node.is_null() {
            return (node, Found::Empty);
        }
        loop {
            // SAFETY: the driver's nodes.
            let (next, found) = unsafe {
                match self.compare(element, node as u64 + data) {
                    Some(order::LESS) => ((*node).left, Found::InsertLeft),
                    Some(order::GREATER) => ((*node).right, Found::InsertRight),
                    Some(_) => return (node, Found::Node),
                    // Nothing was found, and `allocate` gives nothing to insert.
                    None => return (std::ptr::null_mut(), Found::Empty),
                }
            };
            if next.is_null() {
                return (node, found);
            }
            node = next;
        }
    }
}
