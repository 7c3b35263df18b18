//! Bodies from servers that nobody here wrote arrive byte for byte.

mod scenario;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use scenario::{Run, server};

/// FNV-1a, 64 bits, as the sample client sums a body.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// Bytes of no period that a buffer could hide.
fn body(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(size).collect()
}

/// A folder with one file of each size.
fn folder(name: &str, sizes: &[usize]) -> PathBuf {
    let folder = scenario::folder(name);
    for size in sizes {
        fs::write(folder.join(size.to_string()), body(*size)).expect("a body");
    }
    folder
}

const SIZES: [usize; 4] = [0, 1, 1 << 20, 64 << 20];

#[track_caller]
fn assert_fetched(server: SocketAddr, size: usize, receive: &str) {
    let run = Run::client(server).set("Path", format!("/{size}")).set("Receive", receive);
    let ran = run.run().expect_clean();
    let expected = format!("body {size} bytes, fnv1a64 {:016x}", fnv1a64(&body(size)));
    ran.line(&expected);
    assert!(ran.count("bytes_received") > size as u64, "the headers count too: {ran:#?}");
}

#[test]
fn bodies_from_nginx_arrive_byte_for_byte() {
    let server = server::nginx(&folder("nginx", &SIZES));
    for size in SIZES {
        assert_fetched(server.address, size, "request");
    }
}

#[test]
fn bodies_from_nginx_arrive_byte_for_byte_through_event_handlers() {
    let server = server::nginx(&folder("nginx-events", &SIZES));
    for size in SIZES {
        assert_fetched(server.address, size, "event");
    }
}

#[test]
fn bodies_from_python_arrive_byte_for_byte() {
    let server = server::python(&folder("python", &SIZES));
    for size in SIZES {
        assert_fetched(server.address, size, "request");
    }
}

#[test]
fn bodies_from_python_arrive_byte_for_byte_through_event_handlers() {
    let sizes = [0, 1, 1 << 20];
    let server = server::python(&folder("python-events", &sizes));
    for size in sizes {
        assert_fetched(server.address, size, "event");
    }
}
