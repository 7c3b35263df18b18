//! What an image uses of TDI, and what takes its place.

mod counterparts;
mod requests;

use std::collections::BTreeMap;

use nt_abi::tdi::{TdiEvent, TdiRequest};
use pe_image::{Code, ImageFile};
use serde::Serialize;

use crate::report::{Module, Name, NameKind};
use counterparts::Use;
use requests::BuiltRequest;

/// Most pieces of evidence that are given for one use.
const EVIDENCE_MAX: usize = 8;

/// A use of TDI, with what takes its place.
#[derive(Clone, Debug, Serialize)]
pub struct TdiUse {
    /// What is used.
    pub what: &'static str,
    /// What in the image says so.
    pub evidence: Vec<String>,
    /// What a client does with Winsock Kernel instead.
    pub wsk: &'static str,
    /// Where a filter looks with the Windows Filtering Platform instead; nothing for clients.
    pub wfp: Option<&'static str>,
    /// The difference that matters.
    pub difference: &'static str,
    /// Rules about it.
    pub rules: &'static str,
}

/// Whether a driver filters what others send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It uses TDI itself, or offers it.
    Client,
    /// It sits between clients and a transport.
    Filter,
}

/// What is known of an image.
pub struct Subject<'a> {
    pub layout: &'a ImageFile,
    pub code: Option<&'a Code<'a>>,
    pub imports: &'a [Module],
    pub names: &'a [Name],
}

/// The uses of TDI in an image, and the role it plays.
pub fn uses(subject: &Subject<'_>) -> (Vec<TdiUse>, Role) {
    let mut evidence = Evidence::default();
    evidence.imports(subject);
    evidence.devices(subject);
    evidence.attributes(subject.layout);
    if let Some(code) = subject.code {
        evidence.requests(&requests::requests(subject.layout, code));
        evidence.control_codes(code);
    }
    evidence.filtering(subject);
    if evidence.has(Use::OpenAddress) || evidence.has(Use::Associate) {
        evidence.add(Use::Close, "every address and endpoint that is opened".to_owned());
    }
    evidence.into_uses()
}

#[derive(Default)]
struct Evidence(BTreeMap<Use, Vec<String>>);

impl Evidence {
    fn has(&self, used: Use) -> bool {
        self.0.contains_key(&used)
    }

    fn add(&mut self, used: Use, evidence: String) {
        let list = self.0.entry(used).or_default();
        if list.len() < EVIDENCE_MAX && !list.contains(&evidence) {
            list.push(evidence);
        }
    }

    fn imports(&mut self, subject: &Subject<'_>) {
        for import in imported(subject).filter_map(|(module, name)| use_of_import(module, name)) {
            let (used, name) = import;
            self.add(used, format!("imports {name}"));
        }
    }

    fn devices(&mut self, subject: &Subject<'_>) {
        for name in subject.names.iter().filter(|name| is_transport(name)) {
            self.add(Use::Devices, format!("{:?} at +{:#x}", name.text, name.offset));
        }
    }

    /// The names of the extended attributes that say what is opened.
    fn attributes(&mut self, layout: &ImageFile) {
        for (name, used) in [("TransportAddress", Use::OpenAddress), ("ConnectionContext", Use::Associate)] {
            if let Some(offset) = find(layout, name) {
                self.add(used, format!("{name:?} at +{offset:#x}"));
            }
        }
    }

    fn requests(&mut self, requests: &[BuiltRequest]) {
        for request in requests {
            if let Some((used, name)) = use_of_request(request.request) {
                let event = match (used, request.event) {
                    (Use::EventHandlers, None) => ", for an event that is decided at run time",
                    _ => "",
                };
                self.add(used, format!("builds {name} at +{:#x}{event}", request.offset));
            }
            if let Some((used, name)) = request.event.and_then(use_of_event) {
                self.add(used, format!("sets a handler for {name} at +{:#x}", request.offset));
            }
        }
    }

    /// Control codes that appear as constants.
    fn control_codes(&mut self, code: &Code<'_>) {
        for (offset, instruction) in code.instructions() {
            for operand in 0..instruction.op_count() {
                let value = instruction.try_immediate(operand).ok().and_then(|value| u32::try_from(value).ok());
                if let Some((used, name)) = value.and_then(use_of_control_code) {
                    self.add(used, format!("{name} at +{offset:#x}"));
                }
            }
        }
    }

    /// Attaching above a transport, or replacing its dispatch table.
    fn filtering(&mut self, subject: &Subject<'_>) {
        let attaches = |name: &str| name.starts_with("IoAttachDevice");
        if self.has(Use::Devices)
            && let Some((_, name)) = imported(subject).find(|(_, name)| attaches(name))
        {
            self.add(Use::Filter, format!("imports {name} and names a transport's device"));
        }
        let driver = subject.names.iter().find(|name| {
            let text = name.text.to_ascii_lowercase();
            name.kind == NameKind::Driver && (text.starts_with(r"\driver\tcpip") || text.starts_with(r"\driver\tdx"))
        });
        if let Some(driver) = driver
            && let Some((_, name)) = imported(subject).find(|(_, name)| *name == "ObReferenceObjectByName")
        {
            self.add(Use::Hook, format!("imports {name} and names {:?}", driver.text));
        }
    }

    fn into_uses(self) -> (Vec<TdiUse>, Role) {
        let filters = self.has(Use::Filter) || self.has(Use::Hook);
        let role = if filters { Role::Filter } else { Role::Client };
        let uses = self.0.into_iter().filter_map(|(used, evidence)| {
            let counterpart = used.counterpart()?;
            Some(TdiUse {
                what: counterpart.tdi,
                evidence,
                wsk: counterpart.wsk,
                wfp: counterpart.wfp.filter(|_| role == Role::Filter),
                difference: counterpart.difference,
                rules: counterpart.rules,
            })
        });
        (uses.collect(), role)
    }
}

fn imported<'a>(subject: &Subject<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let modules = subject.imports.iter();
    modules.flat_map(|module| module.imports.iter().map(|import| (module.name.as_str(), import.name.as_str())))
}

/// Whether a name is that of a transport's device.
pub fn is_transport(name: &Name) -> bool {
    const DEVICES: [&str; 10] = ["Tcp", "Tcp6", "Udp", "Udp6", "RawIp", "RawIp6", "Ip", "Ip6", "NetBT_Tcpip", "Nbf"];
    let device = name.text.to_ascii_lowercase();
    let Some(device) = device.strip_prefix(r"\device\") else { return false };
    // \Device\RawIp\17 names a protocol, \Device\NetBT_Tcpip_{...} an adapter.
    let device = device.split(['\\', '{']).next().unwrap_or_default().trim_end_matches('_');
    name.kind == NameKind::Device && DEVICES.iter().any(|known| known.eq_ignore_ascii_case(device))
}

/// Where an ASCII string lies that is not a part of a longer one.
fn find(layout: &ImageFile, text: &str) -> Option<u32> {
    let wanted = [text.as_bytes(), b"\0"].concat();
    layout.sections().iter().find_map(|section| {
        let bytes = layout.bytes(section.offset..section.offset + section.file_size)?;
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some(section.offset + at as u32)
    })
}

fn use_of_import<'a>(module: &str, name: &'a str) -> Option<(Use, &'a str)> {
    let is_tdi = module.eq_ignore_ascii_case("tdi.sys");
    let used = match name {
        "TdiRegisterProvider"
        | "TdiDeregisterProvider"
        | "TdiProviderReady"
        | "TdiRegisterDeviceObject"
        | "TdiDeregisterDeviceObject"
        | "TdiRegisterNetAddress"
        | "TdiDeregisterNetAddress"
        | "TdiPnPPowerRequest"
        | "TdiInitialize" => Use::Provider,
        "TdiMapUserRequest" => Use::UserRequests,
        "TdiReturnChainedReceives" | "TdiMatchPdoWithChainedReceiveContext" => Use::ChainedReceive,
        _ if name.starts_with("TdiDefault") => Use::EventHandlers,
        _ if name.starts_with("TdiCopy") || name.starts_with("TdiMapBuffer") || name == "TdiUnmapBuffer" => {
            Use::CopyHelpers
        }
        _ if name.starts_with("Tdi") && name.contains("Netbios") => Use::NetBios,
        _ if name.starts_with("Tdi") && (name.contains("Handler") || is_tdi) => Use::PnpHandlers,
        _ => return None,
    };
    Some((used, name))
}

fn use_of_request(request: TdiRequest) -> Option<(Use, &'static str)> {
    Some(match request {
        TdiRequest::ASSOCIATE_ADDRESS => (Use::Associate, "TDI_ASSOCIATE_ADDRESS"),
        TdiRequest::DISASSOCIATE_ADDRESS => (Use::Disassociate, "TDI_DISASSOCIATE_ADDRESS"),
        TdiRequest::CONNECT => (Use::Connect, "TDI_CONNECT"),
        TdiRequest::LISTEN => (Use::Listen, "TDI_LISTEN"),
        TdiRequest::ACCEPT => (Use::Listen, "TDI_ACCEPT"),
        TdiRequest::DISCONNECT => (Use::Disconnect, "TDI_DISCONNECT"),
        TdiRequest::SEND => (Use::Send, "TDI_SEND"),
        TdiRequest::RECEIVE => (Use::Receive, "TDI_RECEIVE"),
        TdiRequest::SEND_DATAGRAM => (Use::SendDatagram, "TDI_SEND_DATAGRAM"),
        TdiRequest::RECEIVE_DATAGRAM => (Use::ReceiveDatagram, "TDI_RECEIVE_DATAGRAM"),
        TdiRequest::SET_EVENT_HANDLER => (Use::EventHandlers, "TDI_SET_EVENT_HANDLER"),
        TdiRequest::QUERY_INFORMATION => (Use::Query, "TDI_QUERY_INFORMATION"),
        TdiRequest::SET_INFORMATION => (Use::SetInformation, "TDI_SET_INFORMATION"),
        TdiRequest::ACTION => (Use::SetInformation, "TDI_ACTION"),
        TdiRequest::DIRECT_SEND => (Use::Direct, "TDI_DIRECT_SEND"),
        TdiRequest::DIRECT_SEND_DATAGRAM => (Use::Direct, "TDI_DIRECT_SEND_DATAGRAM"),
        TdiRequest::DIRECT_ACCEPT => (Use::Direct, "TDI_DIRECT_ACCEPT"),
        _ => return None,
    })
}

fn use_of_event(event: TdiEvent) -> Option<(Use, &'static str)> {
    Some(match event {
        TdiEvent::CONNECT => (Use::ConnectEvent, "TDI_EVENT_CONNECT"),
        TdiEvent::DISCONNECT => (Use::DisconnectEvent, "TDI_EVENT_DISCONNECT"),
        TdiEvent::ERROR => (Use::ErrorEvent, "TDI_EVENT_ERROR"),
        TdiEvent::ERROR_EX => (Use::ErrorEvent, "TDI_EVENT_ERROR_EX"),
        TdiEvent::RECEIVE => (Use::ReceiveEvent, "TDI_EVENT_RECEIVE"),
        TdiEvent::RECEIVE_DATAGRAM => (Use::DatagramEvent, "TDI_EVENT_RECEIVE_DATAGRAM"),
        TdiEvent::RECEIVE_EXPEDITED => (Use::Expedited, "TDI_EVENT_RECEIVE_EXPEDITED"),
        TdiEvent::CHAINED_RECEIVE_EXPEDITED => (Use::Expedited, "TDI_EVENT_CHAINED_RECEIVE_EXPEDITED"),
        TdiEvent::SEND_POSSIBLE => (Use::SendPossible, "TDI_EVENT_SEND_POSSIBLE"),
        TdiEvent::CHAINED_RECEIVE => (Use::ChainedReceive, "TDI_EVENT_CHAINED_RECEIVE"),
        TdiEvent::CHAINED_RECEIVE_DATAGRAM => (Use::ChainedReceive, "TDI_EVENT_CHAINED_RECEIVE_DATAGRAM"),
        _ => return None,
    })
}

fn use_of_control_code(code: u32) -> Option<(Use, &'static str)> {
    Some(match code {
        0x0012_0003 => (Use::TcpIoctl, "IOCTL_TCP_QUERY_INFORMATION_EX"),
        0x0012_8004 | 0x0012_0028 => (Use::TcpIoctl, "IOCTL_TCP_SET_INFORMATION_EX"),
        0x0021_0203 => (Use::Direct, "IOCTL_TDI_QUERY_DIRECT_SEND_HANDLER"),
        0x0021_0207 => (Use::Direct, "IOCTL_TDI_QUERY_DIRECT_SENDDG_HANDLER"),
        0x0021_0000 | 0x0021_0012 | 0x0021_0021 | 0x0021_0024 | 0x0021_002C | 0x0021_0036 => {
            (Use::UserRequests, "a control code of IOCTL_TDI_*")
        }
        _ => return None,
    })
}
