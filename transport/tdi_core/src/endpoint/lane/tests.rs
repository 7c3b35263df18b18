use std::vec::Vec;

use super::{FIRST_SPACE, Lane};

const LIMIT: usize = 4 * FIRST_SPACE;

fn read(lane: &mut Lane, bytes: &[u8]) {
    lane.space(LIMIT)[..bytes.len()].copy_from_slice(bytes);
    lane.fill(bytes.len(), LIMIT);
}

fn memory_of(lane: &Lane) -> *const u8 {
    lane.0.as_ref().expect("it was used").bytes.as_ptr()
}

fn held(lane: &Lane) -> &[u8] {
    lane.get(lane.first(u32::MAX))
}

#[test]
fn bytes_come_out_in_the_order_they_were_read() {
    let mut lane = Lane::default();
    read(&mut lane, b"abc");
    read(&mut lane, b"def");
    assert_eq!((held(&lane), lane.first(2).len()), (&b"abcdef"[..], 2));
    lane.consume(4);
    read(&mut lane, b"gh");
    assert_eq!(held(&lane), b"efgh");
    lane.consume(100);
    assert!(lane.is_drained() && !lane.is_ready());
}

#[test]
fn a_lane_that_is_filled_gets_more_room_up_to_the_limit() {
    let mut lane = Lane::default();
    let mut rooms = Vec::new();
    for _ in 0..5 {
        let room = lane.room(LIMIT);
        assert_eq!(lane.space(LIMIT).len(), room);
        rooms.push(room);
        lane.fill(room, LIMIT);
        lane.consume(usize::MAX);
    }
    assert_eq!(rooms, [2048, 4096, 8192, 8192, 8192]);
    lane.fill(0, LIMIT);
    assert_eq!(lane.room(LIMIT), 8192);
    assert_eq!(Lane::default().room(1), 1);
    assert_eq!(Lane::default().room(0), 1, "a limit of 0 would stall");
}

#[test]
fn room_is_what_is_not_held() {
    let mut lane = Lane::default();
    read(&mut lane, &[1; 48]);
    assert_eq!((lane.room(LIMIT), lane.space(LIMIT).len()), (2000, 2000));
    lane.consume(8);
    assert_eq!((lane.room(LIMIT), lane.space(LIMIT).len()), (2008, 2008));
    lane.lend();
    assert_eq!(lane.room(LIMIT), 0);
}

#[test]
fn a_fill_beyond_the_space_is_cut() {
    let mut lane = Lane::default();
    lane.space(LIMIT);
    lane.fill(usize::MAX, LIMIT);
    assert_eq!(lane.held(), FIRST_SPACE);
}

#[test]
fn what_was_lent_comes_back_in_front_of_what_was_pushed_meanwhile() {
    let mut lane = Lane::default();
    lane.push(b"xxab");
    lane.consume(2);
    let (bytes, start) = lane.lend();
    assert_eq!((&bytes[start..], lane.is_ready(), lane.is_drained(), lane.is_lent()), (&b"ab"[..], false, false, true));
    lane.push(b"cd");
    lane.push(b"e");
    assert_eq!((lane.held(), lane.total()), (2, 5));
    lane.take_back(bytes, 1);
    assert_eq!((held(&lane), lane.total(), lane.is_lent()), (&b"bcde"[..], 4, false));
    lane.push(b"f");
    assert_eq!(held(&lane), b"bcdef");
}

#[test]
fn a_buffer_that_comes_back_shorter_does_no_harm() {
    let mut lane = Lane::default();
    lane.push(b"abcd");
    lane.consume(2);
    lane.lend();
    lane.push(b"z");
    lane.take_back(Vec::from(*b"a"), 0);
    assert_eq!(held(&lane), b"z");
}

#[test]
fn clearing_forgets_but_keeps_the_memory_and_freeing_gives_it_back() {
    let mut lane = Lane::default();
    read(&mut lane, b"abc");
    let memory = memory_of(&lane);
    lane.set_rejected(true);
    lane.clear();
    assert!(lane.is_drained() && !lane.is_rejected());
    read(&mut lane, b"d");
    assert_eq!((held(&lane), memory_of(&lane)), (&b"d"[..], memory));
    lane.free();
    assert!(lane.0.is_none());
}

#[test]
fn memory_lent_before_a_clear_is_used_again_if_there_is_no_other() {
    let mut lane = Lane::default();
    read(&mut lane, b"abc");
    let (bytes, _) = lane.lend();
    let memory = bytes.as_ptr();
    lane.clear();
    lane.recycle(bytes);
    assert_eq!((lane.held(), memory_of(&lane)), (0, memory));
    lane.push(b"kept");
    lane.recycle(Vec::from(*b"other"));
    assert_eq!(held(&lane), b"kept");
}

#[test]
fn a_range_outside_is_empty() {
    let mut lane = Lane::default();
    lane.push(b"abc");
    assert_eq!(lane.get(2..9), b"");
}
