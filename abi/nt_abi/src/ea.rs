//! Extended-attribute buffers as ZwCreateFile takes them (C-025 to C-038).

/// Offset of `NextEntryOffset` (u32) in an entry.
pub const NEXT_ENTRY_OFFSET: usize = 0;
/// Offset of `Flags` (u8).
pub const FLAGS: usize = 4;
/// Offset of `EaNameLength` (u8).
pub const EA_NAME_LENGTH: usize = 5;
/// Offset of `EaValueLength` (u16).
pub const EA_VALUE_LENGTH: usize = 6;
/// Offset of the name; a NUL that is not counted and then the value follow it (C-026).
pub const EA_NAME: usize = 8;

/// The name that selects a transport address (C-027).
pub const TRANSPORT_ADDRESS: &[u8; 16] = b"TransportAddress";
/// The name that selects a connection endpoint (C-028).
pub const CONNECTION_CONTEXT: &[u8; 17] = b"ConnectionContext";
