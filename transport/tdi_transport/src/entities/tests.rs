use std::net::{IpAddr, Ipv6Addr};

use proves::proves;

use super::*;

fn interfaces() -> Vec<InterfaceEntry> {
    let loopback = InterfaceEntry {
        number: 1,
        name: "lo".into(),
        is_loopback: true,
        is_up: true,
        mtu: 65_536,
        hardware_address: None,
        addresses: vec![([127, 0, 0, 1].into(), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)],
    };
    let wire = InterfaceEntry {
        number: 7,
        name: "wire".into(),
        is_loopback: false,
        is_up: false,
        mtu: 1500,
        hardware_address: Some([2, 0, 0, 0, 0, 9]),
        addresses: vec![([10, 1, 2, 3].into(), 24), ([10, 9, 9, 9].into(), 32)],
    };
    vec![loopback, wire]
}

fn ask(class: u32, entity: u32, instance: u32, id: u32) -> Result<Vec<u8>, NtStatus> {
    answer(ObjectId { entity, instance, class, kind: INFO_TYPE_PROVIDER, id }, [10, 1, 2, 3], &interfaces())
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

#[proves("D-185", "D-186", "D-187", "D-188", "D-189", "D-190", "D-191")]
#[test]
fn each_entity_of_the_list_has_a_type() {
    assert_eq!([INFO_CLASS_GENERIC, INFO_CLASS_PROTOCOL, INFO_TYPE_PROVIDER], [0x100, 0x200, 0x100]);
    let list = numbers(&ask(INFO_CLASS_GENERIC, GENERIC_ENTITY, 0, 0).expect("a list"));
    let pairs: Vec<_> = list.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let expected = [(0x200, 0), (0x200, 1), (0x280, 0), (0x301, 0), (0x380, 0), (0x400, 0), (0x401, 0)];
    assert_eq!(pairs, expected);
    let types = expected.map(|(entity, instance)| numbers(&ask(INFO_CLASS_GENERIC, entity, instance, 1).expect("one")));
    assert_eq!(types.concat(), [0x202, 0x202, 0x280, 0x303, 0x380, 0x404, 0x403]);
    for (entity, instance) in [(0x200, 2), (0x401, 1), (0x300, 0), (0, 0)] {
        assert_eq!(ask(INFO_CLASS_GENERIC, entity, instance, 1), Err(NtStatus::INVALID_PARAMETER));
    }
}

#[proves("D-195", "D-196", "D-197")]
#[test]
fn tables_have_as_many_entries_as_the_ip_entity_says() {
    let counts = ask(INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0, 1).expect("IPSNMPInfo");
    assert_eq!(counts.len(), 92);
    assert_eq!(numbers(&counts)[20..], [2, 3, 3]);
    let addresses = ask(INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0, 0x102).expect("addresses");
    assert_eq!(addresses.len(), 3 * 24);
    assert_eq!(addresses[24..36], [10, 1, 2, 3, 7, 0, 0, 0, 255, 255, 255, 0]);
    assert_eq!(addresses[56..60], [255, 255, 255, 255]);
    let routes = ask(INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0, 0x101).expect("routes");
    assert_eq!(routes.len(), 3 * 52);
    let (dest, next_hop, mask) = (&routes[52..56], &routes[52 + 24..52 + 28], &routes[52 + 40..52 + 44]);
    assert_eq!((dest, next_hop, mask), (&[10, 1, 2, 0][..], &[10, 1, 2, 3][..], &[255, 255, 255, 0][..]));
    assert_eq!(ask(INFO_CLASS_PROTOCOL, AT_ENTITY, 0, 1), Ok(vec![0; 8]));
    assert_eq!(ask(INFO_CLASS_PROTOCOL, AT_ENTITY, 0, 0x101), Ok(Vec::new()));
}

#[proves("D-198", "D-199")]
#[test]
fn interface_of_an_address_is_found_by_its_number() {
    let addresses = ask(INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0, 0x102).expect("addresses");
    let wanted = numbers(&addresses)[7];
    let entries: Vec<_> = (0..2).map(|at| ask(INFO_CLASS_PROTOCOL, IF_ENTITY, at, 1).expect("an IFEntry")).collect();
    assert_eq!(ask(INFO_CLASS_PROTOCOL, IF_ENTITY, 2, 1), Err(NtStatus::INVALID_PARAMETER));
    let found = entries.iter().find(|entry| numbers(entry)[0] == wanted).expect("the interface");
    assert_eq!(numbers(found)[..5], [7, TYPE_ETHERNET, 1500, SPEED, 6]);
    assert_eq!(found[20..28], [2, 0, 0, 0, 0, 9, 0, 0]);
    assert_eq!(numbers(&found[28..36]), [ADMIN_UP, NOT_OPERATIONAL]);
    assert_eq!((numbers(&found[88..92])[0], &found[92..]), (4, b"wire".as_slice()));
    assert_eq!(numbers(&entries[0])[..5], [1, TYPE_LOOPBACK, 65_536, SPEED, 0]);
    let interface = ask(INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0, 0x103).expect("IPInterfaceInfo");
    assert_eq!((numbers(&interface[..16]), &interface[16..]), (vec![0, 1500, SPEED, 6], &[2, 0, 0, 0, 0, 9][..]));
}

#[test]
fn what_is_not_served_is_not_supported() {
    for (class, entity, id) in [
        (INFO_CLASS_PROTOCOL, CO_TL_ENTITY, 0x101),
        (INFO_CLASS_PROTOCOL, CL_NL_ENTITY, 0x104),
        (INFO_CLASS_GENERIC, GENERIC_ENTITY, 5),
        (0x300, IF_ENTITY, 1),
    ] {
        assert_eq!(ask(class, entity, 0, id), Err(NtStatus::NOT_SUPPORTED));
    }
    let object = ObjectId { entity: 0, instance: 0, class: INFO_CLASS_GENERIC, kind: 0x300, id: 0 };
    assert_eq!(answer(object, [0; 4], &interfaces()), Err(NtStatus::NOT_SUPPORTED));
}
