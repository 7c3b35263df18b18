//! What NT calls its numbers, for accounts and figures.

use figure::Names;
use nt_abi::tdi::{TdiEvent, TdiRequest};
use nt_abi::{MajorFunction, NtStatus};
use trace::Functions;

/// NT's own names.
pub fn nt() -> Names {
    Names { status, function, detail, event, event_moves_data, event_detail }
}

/// `STATUS_xxx`, or the number in hex.
pub fn status(status: u32) -> String {
    match NtStatus(status).name() {
        Some(name) => format!("STATUS_{name}"),
        None => format!("{status:#010x}"),
    }
}

fn function(functions: u32) -> String {
    let functions = Functions(functions);
    let major = MajorFunction(functions.major());
    match (major, TdiRequest(functions.minor()).name(), major.name()) {
        (MajorFunction::INTERNAL_DEVICE_CONTROL, Some(request), _) => format!("TDI_{request}"),
        (_, _, Some(name)) => format!("IRP_MJ_{name}"),
        (_, _, None) => format!("IRP_MJ_{:#04x}", functions.major()),
    }
}

fn detail(functions: u32, detail: u64) -> String {
    let functions = Functions(functions);
    if MajorFunction(functions.major()) == MajorFunction::DEVICE_CONTROL {
        return format!("code {detail:#x}");
    }
    if !functions.is_internal_device_control() {
        return String::new();
    }
    match TdiRequest(functions.minor()) {
        TdiRequest::DISCONNECT => disconnect_flags(detail),
        TdiRequest::SET_EVENT_HANDLER => event(detail as u32),
        _ => String::new(),
    }
}

fn event(event: u32) -> String {
    let name = match TdiEvent(event) {
        TdiEvent::CONNECT => "ClientEventConnect",
        TdiEvent::DISCONNECT => "ClientEventDisconnect",
        TdiEvent::ERROR => "ClientEventError",
        TdiEvent::RECEIVE => "ClientEventReceive",
        TdiEvent::RECEIVE_DATAGRAM => "ClientEventReceiveDatagram",
        TdiEvent::RECEIVE_EXPEDITED => "ClientEventReceiveExpedited",
        TdiEvent::SEND_POSSIBLE => "ClientEventSendPossible",
        TdiEvent::CHAINED_RECEIVE => "ClientEventChainedReceive",
        TdiEvent::CHAINED_RECEIVE_DATAGRAM => "ClientEventChainedReceiveDatagram",
        TdiEvent::CHAINED_RECEIVE_EXPEDITED => "ClientEventChainedReceiveExpedited",
        TdiEvent::ERROR_EX => "ClientEventErrorEx",
        TdiEvent(other) => return format!("event {other}"),
    };
    name.into()
}

fn event_moves_data(event: u32) -> bool {
    let quiet = [TdiEvent::CONNECT, TdiEvent::DISCONNECT, TdiEvent::ERROR, TdiEvent::ERROR_EX, TdiEvent::SEND_POSSIBLE];
    !quiet.contains(&TdiEvent(event))
}

fn event_detail(event: u32, detail: u64) -> String {
    if TdiEvent(event) == TdiEvent::DISCONNECT { disconnect_flags(detail) } else { String::new() }
}

fn disconnect_flags(value: u64) -> String {
    flags(value, &[(1, "WAIT"), (2, "ABORT"), (4, "RELEASE")])
}

fn flags(value: u64, names: &[(u64, &str)]) -> String {
    let set: Vec<&str> = names.iter().filter(|(bit, _)| value & bit != 0).map(|&(_, name)| name).collect();
    if set.is_empty() { "flags 0".into() } else { set.join("|") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_events_and_statuses_print_as_nt_prints_them() {
        assert_eq!(function(0x0F06), "TDI_DISCONNECT");
        assert_eq!(function(0x1200), "IRP_MJ_CLEANUP");
        assert_eq!(function(0x1F00), "IRP_MJ_0x1f");
        assert_eq!(detail(0x0F06, 4), "RELEASE");
        assert_eq!(event(3), "ClientEventReceive");
        assert_eq!((status(0), status(0x1234)), ("STATUS_SUCCESS".into(), "0x00001234".into()));
    }
}
