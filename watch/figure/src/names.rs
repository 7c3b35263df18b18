//! Names of NT's numbers, given by whoever draws: they are written down in one place, and that is not here.

/// How numbers are printed.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// An NTSTATUS: `STATUS_SUCCESS`.
    pub status: fn(status: u32) -> String,
    /// A request, from major << 8 | minor: `TDI_CONNECT`, `IRP_MJ_CLEANUP`.
    pub function: fn(functions: u32) -> String,
    /// What the detail of a request says, such as flags or an IOCTL's code; empty if nothing. Byte counts of
    /// transfers are printed without it.
    pub detail: fn(functions: u32, detail: u64) -> String,
    /// A TDI event's handler: `ClientEventReceive`.
    pub event: fn(event: u32) -> String,
    /// Whether that event indicates bytes, which are then counted.
    pub event_moves_data: fn(event: u32) -> bool,
    /// What the `bytes` of an event say that indicates none, such as disconnect flags; empty if nothing.
    pub event_detail: fn(event: u32, detail: u64) -> String,
}

impl Names {
    /// Bare numbers in hex.
    pub fn numbers() -> Self {
        Self {
            status: |status| format!("{status:#010x}"),
            function: |functions| format!("request {functions:#06x}"),
            detail: |_, detail| if detail == 0 { String::new() } else { format!("{detail:#x}") },
            event: |event| format!("event {event}"),
            event_moves_data: |_| false,
            event_detail: |_, detail| if detail == 0 { String::new() } else { format!("{detail:#x}") },
        }
    }
}
