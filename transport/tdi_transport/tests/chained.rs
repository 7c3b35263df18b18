//! ClientEventChainedReceive, and what clients keep of it.

mod client;
mod peer;
mod scripted;

use std::sync::Arc;

use client::handlers::{Answer, Client, Seen, bytes_of};
use client::*;
use nt_abi::NtStatus;
use nt_abi::tdi::{TdiEvent, receive_flags};
use proves::proves;
use scripted::{Line, Script};
use tdi_transport::Leftover;

const CONTEXT: u64 = 0xC0FFEE;
const FLAGS: u32 = receive_flags::NORMAL | receive_flags::ENTIRE_MESSAGE | receive_flags::AT_DISPATCH_LEVEL;

/// A connection with all handlers.
struct Connected {
    address: File,
    endpoint: File,
    client: Box<Client>,
    line: Line,
}

fn connected(test: impl FnOnce(Connected, &dyn Fn() -> usize) + Send) {
    let network = Script::new();
    let shared = Arc::clone(&network);
    with_transport(network, move |transport| {
        let client = Client::new();
        let (address, endpoint) = open_pair(CONTEXT);
        client.listen_to(&address, &[TdiEvent::RECEIVE, TdiEvent::CHAINED_RECEIVE, TdiEvent::DISCONNECT]);
        assert_eq!(endpoint.connect("10.0.0.2:80".parse().expect("an address")), NtStatus::SUCCESS);
        let kept = || {
            let is_chain = |leftover: &&Leftover| matches!(leftover, Leftover::Chain { .. });
            leftovers(transport).iter().filter(is_chain).count()
        };
        test(Connected { address, endpoint, client, line: shared.line(0) }, &kept);
    });
}

impl Connected {
    /// What the handler is shown next.
    fn shown(&self) -> (Vec<u8>, u64) {
        match &self.client.wait_for(|seen| !seen.is_empty())[..] {
            [Seen::Chained { context: CONTEXT, flags: FLAGS, bytes, descriptor }] => (bytes.clone(), *descriptor),
            other => panic!("{other:?}"),
        }
    }

    fn close(self) {
        self.endpoint.close(Order::ReferenceFirst);
        self.address.close(Order::ReferenceFirst);
    }
}

fn give_back(descriptors: &[u64]) {
    let export = tdi_library::resolve("tdi.sys", "TdiReturnChainedReceives").expect("an export");
    // SAFETY: an array and its length, as the routine wants them.
    unsafe { gate::call::call_n(export.address(), &[descriptors.as_ptr() as u64, descriptors.len() as u64]) };
}

#[proves("C-496", "C-498", "C-499", "C-503", "C-506")]
#[test]
fn arriving_data_is_shown_as_a_chain_to_the_chained_handler_alone() {
    connected(|at, kept| {
        for bytes in [vec![1], vec![2; 5_000], vec![3; 100]] {
            at.line.deliver(&bytes);
            let seen = at.client.wait_for(|seen| bytes_of(seen).len() >= bytes.len());
            assert!(seen.iter().all(|seen| matches!(seen, Seen::Chained { context: CONTEXT, flags: FLAGS, .. })));
            assert_eq!(bytes_of(&seen), bytes);
        }
        assert_eq!(kept(), 0);
        at.close();
    });
}

#[proves("C-500", "C-501")]
#[test]
fn kept_chain_stays_until_it_is_given_back_even_after_the_close() {
    connected(|at, kept| {
        let mut descriptors = Vec::new();
        for bytes in [b"one", b"two"] {
            at.client.script(Answer::status(NtStatus::PENDING));
            at.line.deliver(bytes);
            let (seen, descriptor) = at.shown();
            assert_eq!(seen, bytes);
            descriptors.push(descriptor);
        }
        at.line.deliver(b"three");
        assert_eq!(at.shown().0, b"three", "what is kept is consumed");
        assert_eq!(kept(), 2);
        give_back(&descriptors[..1]);
        at.close();
        assert_eq!(kept(), 1);
        // What nobody keeps (any more) is a finding and harms nobody.
        descriptors.extend([0, u64::MAX]);
        give_back(&descriptors);
        assert_eq!(kept(), 0);
    });
}

#[proves("C-501")]
#[test]
fn chain_may_be_given_back_from_inside_the_handler() {
    connected(|at, kept| {
        // The first descriptor is the name of the first slot: each chain is alone, so the next has the next name.
        at.line.deliver(b"first");
        let (_, first) = at.shown();
        let next = first + (1 << 32);
        for (status, again) in [(NtStatus::PENDING, 0), (NtStatus::SUCCESS, 1), (NtStatus::DATA_NOT_ACCEPTED, 2)] {
            let descriptor = next + (again << 32);
            at.client.script(Answer::status(status).then(move || give_back(&[descriptor])));
            at.line.deliver(b"x");
            assert_eq!(at.shown(), (b"x".to_vec(), descriptor));
            assert_eq!(kept(), 0);
        }
        // The refused byte is still there.
        assert_eq!(at.endpoint.receive(10).as_deref(), Ok(b"x".as_slice()));
        at.close();
    });
}

#[proves("C-502", "C-505")]
#[test]
fn refused_chain_waits_for_a_receive() {
    connected(|at, kept| {
        for status in [NtStatus::DATA_NOT_ACCEPTED, NtStatus::CONNECTION_ABORTED, NtStatus::MORE_PROCESSING_REQUIRED] {
            at.client.script(Answer::status(status));
            at.line.deliver(b"later");
            assert_eq!(at.shown().0, b"later");
            assert_eq!(kept(), 0);
            assert_eq!(at.endpoint.receive(3).as_deref(), Ok(b"lat".as_slice()));
            assert_eq!(at.shown().0, b"er");
        }
        at.close();
    });
}

#[test]
fn rest_of_a_chain_begins_at_its_starting_offset() {
    connected(|at, _| {
        at.client.script(Answer::status(NtStatus::DATA_NOT_ACCEPTED));
        let bytes: Vec<u8> = (0..1500_u32).map(|at| at as u8).collect();
        at.line.deliver(&bytes);
        assert_eq!(at.shown().0, bytes);
        assert_eq!(at.endpoint.receive(700).as_deref(), Ok(&bytes[..700]));
        assert_eq!(at.shown().0, bytes[700..]);
        at.close();
    });
}

#[test]
fn endpoint_may_be_closed_inside_a_chained_handler_that_keeps() {
    connected(|at, kept| {
        let Connected { address, endpoint, client, line } = at;
        client.script(Answer::status(NtStatus::PENDING).then(move || endpoint.close(Order::ReferenceFirst)));
        line.deliver(b"last");
        let seen = client.wait_for(|seen| !seen.is_empty());
        let [Seen::Chained { descriptor: shown, .. }] = seen[..] else { panic!("{seen:?}") };
        nt_dispatcher::work::drain();
        assert_eq!(kept(), 1);
        give_back(&[shown]);
        assert_eq!(kept(), 0);
        address.close(Order::ReferenceFirst);
    });
}
