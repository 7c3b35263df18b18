//! Interrupt request levels.

use crate::open_enum;

open_enum! {
    /// An interrupt request level, as held in CR8 (K-005).
    #[doc(alias = "KIRQL")]
    pub enum Irql : u8 {
        #[allow(missing_docs)] PASSIVE = 0,
        #[allow(missing_docs)] APC = 1,
        #[allow(missing_docs)] DISPATCH = 2,
        #[allow(missing_docs)] CLOCK = 13,
        #[allow(missing_docs)] HIGH = 15,
    }
}
