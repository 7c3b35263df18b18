//! The handlers that transports store where no client has registered one (C-512 to C-516).
//!
//! What the originals return is not documented; these have the effect of no handler: offers are refused, data is not
//! accepted, the rest is ignored (C-514).

use nt_abi::NtStatus;

gate::exports! {
    /// Default event handlers.
    pub static TABLE in "tdi.sys";
    "TdiDefaultConnectHandler" = refuse_connection(context: u64, address_length: i32, address: u64, data_length: i32, data: u64, options_length: i32, options: u64, connection: u64, irp: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultDisconnectHandler" = ignore_disconnect(context: u64, connection: u64, data_length: i32, data: u64, information_length: i32, information: u64, flags: u32) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultErrorHandler" = ignore_error(context: u64, status: NtStatus) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultReceiveHandler" = refuse_data(context: u64, connection: u64, flags: u32, indicated: u32, available: u32, taken: u64, tsdu: u64, irp: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultRcvExpeditedHandler" = refuse_data(context: u64, connection: u64, flags: u32, indicated: u32, available: u32, taken: u64, tsdu: u64, irp: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultRcvDatagramHandler" = refuse_datagram(context: u64, source_length: i32, source: u64, options_length: i32, options: u64, flags: u32, indicated: u32, available: u32, taken: u64, tsdu: u64, irp: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultChainedReceiveHandler" = refuse_chained(context: u64, connection: u64, flags: u32, length: u32, offset: u32, tsdu: u64, descriptor: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultChainedRcvExpeditedHandler" = refuse_chained(context: u64, connection: u64, flags: u32, length: u32, offset: u32, tsdu: u64, descriptor: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultChainedRcvDatagramHandler" = refuse_chained_datagram(context: u64, source_length: i32, source: u64, options_length: i32, options: u64, flags: u32, length: u32, offset: u32, tsdu: u64, descriptor: u64) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
    "TdiDefaultSendPossibleHandler" = ignore_room(context: u64, connection: u64, bytes: u32) -> NtStatus, irql <= DISPATCH, rules "C-513 C-514";
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn refuse_connection(
    _context: u64,
    _address_length: i32,
    _address: u64,
    _data_length: i32,
    _data: u64,
    _options_length: i32,
    _options: u64,
    _connection: u64,
    _irp: u64,
) -> NtStatus {
    NtStatus::CONNECTION_REFUSED
}

unsafe extern "win64" fn ignore_disconnect(
    _context: u64,
    _connection: u64,
    _data_length: i32,
    _data: u64,
    _information_length: i32,
    _information: u64,
    _flags: u32,
) -> NtStatus {
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ignore_error(_context: u64, _status: NtStatus) -> NtStatus {
    NtStatus::SUCCESS
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn refuse_data(
    _context: u64,
    _connection: u64,
    _flags: u32,
    _indicated: u32,
    _available: u32,
    _taken: u64,
    _tsdu: u64,
    _irp: u64,
) -> NtStatus {
    NtStatus::DATA_NOT_ACCEPTED
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn refuse_datagram(
    _context: u64,
    _source_length: i32,
    _source: u64,
    _options_length: i32,
    _options: u64,
    _flags: u32,
    _indicated: u32,
    _available: u32,
    _taken: u64,
    _tsdu: u64,
    _irp: u64,
) -> NtStatus {
    NtStatus::DATA_NOT_ACCEPTED
}

unsafe extern "win64" fn refuse_chained(
    _context: u64,
    _connection: u64,
    _flags: u32,
    _length: u32,
    _offset: u32,
    _tsdu: u64,
    _descriptor: u64,
) -> NtStatus {
    NtStatus::DATA_NOT_ACCEPTED
}

#[allow(clippy::too_many_arguments, reason = "TDI's signature")]
unsafe extern "win64" fn refuse_chained_datagram(
    _context: u64,
    _source_length: i32,
    _source: u64,
    _options_length: i32,
    _options: u64,
    _flags: u32,
    _length: u32,
    _offset: u32,
    _tsdu: u64,
    _descriptor: u64,
) -> NtStatus {
    NtStatus::DATA_NOT_ACCEPTED
}

unsafe extern "win64" fn ignore_room(_context: u64, _connection: u64, _bytes: u32) -> NtStatus {
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use gate::export::ExportKind;
    use proves::proves;

    use super::*;

    #[proves("C-512", "C-513", "C-514")]
    #[test]
    fn default_handlers_have_the_effect_of_none() {
        let call = |name: &str| {
            let export = TABLE.iter().find(|export| export.name == name).expect(name);
            let ExportKind::Function(_) = export.kind else { panic!("{name}") };
            // SAFETY: functions of this module, which look at none of their arguments.
            unsafe {
                type Handler = extern "win64" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> NtStatus;
                let handler: Handler = std::mem::transmute(export.address());
                handler(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
            }
        };
        assert_eq!(TABLE.len(), 10);
        for export in TABLE {
            let expected = match export.name {
                "TdiDefaultConnectHandler" => NtStatus::CONNECTION_REFUSED,
                "TdiDefaultDisconnectHandler" | "TdiDefaultErrorHandler" | "TdiDefaultSendPossibleHandler" => {
                    NtStatus::SUCCESS
                }
                _ => NtStatus::DATA_NOT_ACCEPTED,
            };
            assert_eq!(call(export.name), expected, "{}", export.name);
        }
    }
}
