//! What is seen of TDI, and what is said about its successors.

use inspect::{Report, TdiUse, inspect};
use test_image::{CODE, CONSTANTS, TestImage, UNWIND_NOTHING};

/// A driver with these imports, strings and code; the code may read the strings at its distance to them.
fn report(modules: &[(&str, &[&str])], strings: &[u8], code: impl FnOnce(i32) -> Vec<u8>) -> Report {
    let mut image = TestImage::new();
    image.imports(modules);
    let at = image.section(".rdata", &[strings, b"\0"].concat(), CONSTANTS);
    let text = image.next();
    image.entry = text;
    let code = code(at as i32 - text as i32);
    image.section(".text", &code, CODE);
    image.functions(&[(text, text + code.len() as u32, UNWIND_NOTHING)]);
    inspect(&image.build(), "test.sys", &|_, _| None)
}

fn of_code(code: &[u8]) -> Report {
    report(&[], b"", |_| code.to_vec())
}

#[track_caller]
fn used<'a>(report: &'a Report, what: &str) -> &'a TdiUse {
    let found = report.tdi.iter().find(|tdi| tdi.what.contains(what));
    found.unwrap_or_else(|| panic!("{what} is not among {:?}", report.tdi))
}

#[test]
fn requests_are_seen_in_every_way_that_compilers_write_them() {
    let ways: [(&str, &[u8]); 6] = [
        // mov rax, [rcx + 0B8h]; mov word [rax - 48h], 70Fh; ret
        ("two bytes at once", b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x07\xC3"),
        // mov rax, [rcx + 0B8h]; mov byte [rax - 48h], 0Fh; mov byte [rax - 47h], 7; ret
        ("byte by byte", b"\x48\x8B\x81\xB8\0\0\0\xC6\x40\xB8\x0F\xC6\x40\xB9\x07\xC3"),
        // mov rax, [rcx + 0B8h]; add rax, -48h; mov byte [rax + 1], 7; mov byte [rax], 0Fh; ret
        ("from the next location", b"\x48\x8B\x81\xB8\0\0\0\x48\x83\xC0\xB8\xC6\x40\x01\x07\xC6\x00\x0F\xC3"),
        // mov rax, [rcx + 0B8h]; lea rdx, [rax - 48h]; mov ecx, 70Fh; mov [rdx], cx; ret
        ("through registers", b"\x48\x8B\x81\xB8\0\0\0\x48\x8D\x50\xB8\xB9\x0F\x07\0\0\x66\x89\x0A\xC3"),
        // mov rax, [rcx + 0B8h]; mov [rsp + 8], rax; call +0; mov rax, [rsp + 8]; sub rax, 48h;
        // mov byte [rax], 0Fh; mov byte [rax + 1], 7; ret
        (
            "through the stack",
            b"\x48\x8B\x81\xB8\0\0\0\x48\x89\x44\x24\x08\xE8\0\0\0\0\x48\x8B\x44\x24\x08\x48\x83\xE8\x48\xC6\x00\x0F\xC6\x40\x01\x07\xC3",
        ),
        // mov rax, [rcx + 0B8h]; mov dword [rax - 48h], 0E000070Fh; ret
        ("with flags and control", b"\x48\x8B\x81\xB8\0\0\0\xC7\x40\xB8\x0F\x07\0\xE0\xC3"),
    ];
    for (way, code) in ways {
        let report = of_code(code);
        let send = used(&report, "TDI_SEND");
        assert_eq!((send.wsk, send.wfp), ("WskSend", None), "{way}");
        assert!(send.evidence[0].starts_with("builds TDI_SEND at +0x"), "{way}: {:?}", send.evidence);
    }
    // movzx ecx, word [rip + string]; mov rax, [rdx + 0B8h]; mov [rax - 48h], cx; ret
    let constant = report(&[], b"\x0F\x08", |distance| {
        [b"\x0F\xB7\x0D", &(distance - 7).to_le_bytes()[..], b"\x48\x8B\x82\xB8\0\0\0\x66\x89\x48\xB8\xC3"].concat()
    });
    assert_eq!(used(&constant, "TDI_RECEIVE").wsk, "WskReceive", "from a constant");
}

#[test]
fn other_requests_and_other_places_are_not_mistaken_for_tdi() {
    let ways: [(&str, &[u8]); 4] = [
        ("a device control", b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0E\x07\xC3"),
        ("a code that TDI does not have", b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x77\xC3"),
        ("the current location", b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x00\x0F\x07\xC3"),
        ("a place on the stack", b"\x48\x8B\x84\x24\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x07\xC3"),
    ];
    for (way, code) in ways {
        assert!(of_code(code).tdi.is_empty(), "{way}");
    }
}

#[test]
fn handlers_of_events_are_told_apart() {
    // mov rax, [rcx + 0B8h]; mov word [rax - 48h], 0B0Fh; mov dword [rax - 40h], event; ret
    let sets = |event: u8| {
        let code =
            [b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x0B\xC7\x40\xC0", &[event, 0, 0, 0][..], b"\xC3"].concat();
        of_code(&code)
    };
    assert_eq!(used(&sets(0), "ClientEventConnect").wsk, "WskAcceptEvent");
    assert_eq!(used(&sets(3), "ClientEventReceive").wsk, "WskReceiveEvent");
    assert!(used(&sets(5), "expedited").difference.contains("no direct replacement"));
    assert!(used(&sets(7), "chained").wsk.contains("WskRelease"));
    // mov rax, [rcx + 0B8h]; mov word [rax - 48h], 0B0Fh; mov [rax - 40h], edx; ret
    let unknown = of_code(b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x0B\x89\x50\xC0\xC3");
    assert_eq!(unknown.tdi.len(), 1);
    assert!(used(&unknown, "SET_EVENT_HANDLER").evidence[0].ends_with("decided at run time"));
}

#[test]
fn filter_is_told_from_a_client_and_gets_layers() {
    let strings: Vec<u8> = "\\Device\\Udp\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let send: &[u8] = b"\x48\x8B\x81\xB8\0\0\0\x66\xC7\x40\xB8\x0F\x09\xC3";
    let client = report(&[("ntoskrnl.exe", &["IoGetDeviceObjectPointer"])], &strings, |_| send.to_vec());
    assert_eq!(used(&client, "TDI_SEND_DATAGRAM").wfp, None);
    let filter = report(&[("ntoskrnl.exe", &["IoAttachDevice"])], &strings, |_| send.to_vec());
    assert!(used(&filter, "TDI_SEND_DATAGRAM").wfp.expect("a layer").contains("DATAGRAM_DATA"));
    assert!(used(&filter, "attached").wfp.expect("callouts").contains("FwpsCalloutRegister"));
    assert!(filter.technologies.iter().any(|technology| technology.meaning.contains("filters what others send")));
    let hook = report(&[("ntoskrnl.exe", &["ObReferenceObjectByName"])], b"\\Driver\\Tcpip", |_| b"\xC3".to_vec());
    assert!(used(&hook, "dispatch table").wfp.is_some());
}

#[test]
fn devices_imports_and_control_codes_are_evidence() {
    let names: &[&str] =
        &["TdiRegisterPnPHandlers", "TdiReturnChainedReceives", "TdiRegisterDeviceObject", "TdiMapUserRequest"];
    let strings = b"\\Device\\RawIp\\17\0\\Device\\TcpExtra\0TransportAddress\0XConnectionContextX\0";
    // mov edx, 120003h; ret
    let report = report(&[("TDI.SYS", names)], strings, |_| b"\xBA\x03\0\x12\0\xC3".to_vec());
    assert_eq!(used(&report, "transport devices").evidence.len(), 1, "TcpExtra is no transport");
    assert!(used(&report, "PnP").wsk.contains("WSK_TRANSPORT_LIST_CHANGE"));
    assert!(used(&report, "chained").evidence[0].contains("TdiReturnChainedReceives"));
    assert!(used(&report, "announcing").wsk.contains("NPI"));
    assert!(used(&report, "user programs").wsk.contains("nothing"));
    assert!(used(&report, "IOCTL_TCP").wsk.contains("WskControlSocket"));
    assert!(used(&report, "opening an address").evidence[0].contains("TransportAddress"));
    assert!(!report.tdi.iter().any(|tdi| tdi.what.contains("endpoint")), "a part of a longer string is none");
    let text = report.to_string();
    assert!(
        text.contains("WSK:  WskSocket, then WskBind") && text.contains("but:  the address is a SOCKADDR"),
        "{text}"
    );
}

#[test]
fn every_use_names_rules() {
    let names: &[&str] =
        &["TdiRegisterPnPHandlers", "TdiCopyBufferToMdl", "TdiOpenNetbiosAddress", "TdiDefaultReceiveHandler"];
    for tdi in report(&[("tdi.sys", names)], b"", |_| b"\xC3".to_vec()).tdi {
        assert!(tdi.rules.split(' ').all(|rule| rule.starts_with("D-")), "{tdi:?}");
    }
}
