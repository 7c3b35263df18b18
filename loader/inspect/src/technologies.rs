//! What an image is built on, and what comes of that here.

use crate::report::{Exceptions, ImportState, Module, Name, Technology};
use crate::tdi::{self, Role, TdiUse};

/// Something that is recognised by the module that is imported from.
struct Library {
    /// The module, in small letters.
    module: &'static str,
    name: &'static str,
    /// What the image then is, and what comes of that.
    meaning: &'static str,
}

const LIBRARIES: &[Library] = &[
    Library {
        module: "wdfldr.sys",
        name: "KMDF",
        meaning: "It is written with the Kernel-Mode Driver Framework: its first call is WdfVersionBind, which asks for a runtime \
                  (Wdf01000.sys) that does nearly everything for it. Drydock has no such runtime",
    },
    Library {
        module: "ndis.sys",
        name: "NDIS",
        meaning: "It stands on NDIS, the library below the transports, of which Drydock has at most single functions",
    },
    Library { module: "netio.sys", name: "WSK", meaning: "It uses the kernel's sockets (Winsock Kernel)" },
    Library {
        module: "fwpkclnt.sys",
        name: "WFP",
        meaning: "It filters with the Windows Filtering Platform, which has no counterpart here: its callouts are never called",
    },
    Library {
        module: "fltmgr.sys",
        name: "file system filter",
        meaning: "It is a file system filter (minifilter); there are no file systems to filter here",
    },
    Library {
        module: "storport.sys",
        name: "storage",
        meaning: "It drives storage hardware, which there is none of here",
    },
    Library { module: "portcls.sys", name: "audio", meaning: "It drives audio hardware, which there is none of here" },
    Library { module: "usbd.sys", name: "USB", meaning: "It drives USB devices, which there are none of here" },
    Library { module: "hidclass.sys", name: "HID", meaning: "It drives input devices, which there are none of here" },
    Library { module: "win32k.sys", name: "graphics", meaning: "It is a graphics driver; there is no display here" },
];

/// Modules of user mode, in small letters.
const USER_MODE: [&str; 8] = [
    "kernel32.dll",
    "kernelbase.dll",
    "user32.dll",
    "advapi32.dll",
    "msvcrt.dll",
    "ucrtbase.dll",
    "ws2_32.dll",
    "api-ms-win-crt-runtime-l1-1-0.dll",
];

/// What the image is built on.
pub fn technologies(
    imports: &[Module],
    names: &[Name],
    exceptions: Option<&Exceptions>,
    uses: &[TdiUse],
    role: Role,
) -> Vec<Technology> {
    let mut found: Vec<_> = tdi_use(imports, names, uses, role).into_iter().collect();
    for library in LIBRARIES {
        let modules: Vec<_> =
            imports.iter().filter(|module| module.name.eq_ignore_ascii_case(library.module)).collect();
        if !modules.is_empty() {
            found.push(Technology {
                name: library.name,
                meaning: format!("{}{}.", library.meaning, kind(library, &modules)),
                evidence: modules.iter().map(|module| counted(module)).collect(),
            });
        }
    }
    found.extend(exceptions.filter(|exceptions| exceptions.with_handler != 0).map(|exceptions| Technology {
        name: "SEH",
        meaning: format!(
            "It handles exceptions: {} of its {} functions have a handler.",
            exceptions.with_handler, exceptions.functions
        ),
        evidence: exceptions.handlers.clone(),
    }));
    let user_mode: Vec<_> = imports.iter().filter(|module| is_user_mode(module)).map(counted).collect();
    if !user_mode.is_empty() {
        found.push(Technology {
            name: "user mode",
            meaning:
                "It imports from libraries of user programs, which no driver can: it is a program or library, and no \
                      driver."
                    .to_owned(),
            evidence: user_mode,
        });
    }
    found
}

fn is_user_mode(module: &Module) -> bool {
    USER_MODE.iter().any(|name| module.name.eq_ignore_ascii_case(name))
}

fn counted(module: &Module) -> String {
    let count = module.imports.len();
    format!("{count} {} from {}", if count == 1 { "import" } else { "imports" }, module.name)
}

fn tdi_use(imports: &[Module], names: &[Name], uses: &[TdiUse], role: Role) -> Option<Technology> {
    if uses.is_empty() {
        return None;
    }
    let devices = names.iter().filter(|name| tdi::is_transport(name)).map(|name| name.text.clone());
    let modules = imports.iter().filter(|module| module.name.eq_ignore_ascii_case("tdi.sys")).map(counted);
    let meaning = match role {
        Role::Client => {
            "It uses the Transport Driver Interface, as a client or a transport; Windows calls that deprecated (D-329)."
        }
        Role::Filter => {
            "It filters what others send through the Transport Driver Interface; Windows calls that deprecated (D-329)."
        }
    };
    Some(Technology { name: "TDI", meaning: meaning.to_owned(), evidence: devices.chain(modules).collect() })
}

/// What kind of NDIS driver it is, or whether all that is imported is there.
fn kind(library: &Library, modules: &[&Module]) -> String {
    let imports = || modules.iter().flat_map(|module| &module.imports);
    let has = |name: &str| imports().any(|import| import.name == name);
    let ndis = match library.name {
        "NDIS" if has("NdisMRegisterMiniportDriver") || has("NdisMRegisterMiniport") => {
            "; it is a network adapter's driver (miniport)"
        }
        "NDIS" if has("NdisRegisterProtocolDriver") || has("NdisRegisterProtocol") => {
            "; it is a protocol, which binds to network adapters"
        }
        "NDIS" if has("NdisFRegisterFilterDriver") => "; it is a filter below the protocols",
        "NDIS" if has("NdisIMRegisterLayeredMiniport") => "; it is an intermediate driver",
        _ => "",
    };
    let missing = imports().filter(|import| matches!(import.state, ImportState::Missing { .. })).count();
    let total = imports().count();
    match missing {
        0 => format!("{ndis}; everything it imports from there is implemented"),
        _ => format!("{ndis}; {missing} of its {total} imports from there are missing"),
    }
}
