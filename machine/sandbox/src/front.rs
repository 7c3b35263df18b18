//! The front of the one filter.
//!
//! The kernel runs the filter at every system call, and answers none from memory because the place check looks at the
//! instruction pointer. Three filters whose list is walked from its beginning cost a round trip of one byte a tenth more. So
//! there is one, and it asks after the calls that moving bytes and waiting are made of first; all others go on to the list
//! that seccompiler has written.

use libc::c_long;
use seccompiler::{BpfProgram, sock_filter};

use crate::{Policy, calls, place};

/// `AUDIT_ARCH_X86_64`.
const ARCHITECTURE: u32 = 0xC000_003E;
/// Where `seccomp_data` holds the architecture.
const ARCHITECTURE_WORD: u32 = 4;
/// Where it holds the call's number.
const NUMBER_WORD: u32 = 0;

/// `BPF_LD | BPF_W | BPF_ABS`.
pub(crate) const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const JUMP_IF_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub(crate) const RETURN: u16 = 0x06;

/// Frequent calls that every run may make, whatever their arguments.
const FREQUENT: &[c_long] = &[libc::SYS_futex, libc::SYS_epoll_wait, libc::SYS_close, libc::SYS_epoll_ctl];
/// ... with sockets.
const FREQUENT_SOCKETS: &[c_long] =
    &[libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_connect, libc::SYS_shutdown, libc::SYS_setsockopt];

pub(crate) fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Everything in front of the list.
pub(crate) fn program(policy: Policy) -> BpfProgram {
    let sockets = FREQUENT_SOCKETS.iter().filter(|_| policy.sockets);
    let allowed: Vec<u32> = FREQUENT.iter().chain(sockets).map(|&number| number as u32).collect();
    let absent: Vec<u32> = calls::ABSENT.iter().map(|&(_, number)| number as u32).collect();

    let place = place::check();
    let questions = (allowed.len() + absent.len()) as u8;
    // Of another architecture, whose numbers mean other calls: the list says what becomes of it.
    let end = place.len() as u8 + 1 + questions + 3;
    let mut program =
        vec![instruction(LOAD, ARCHITECTURE_WORD, 0, 0), instruction(JUMP_IF_EQUAL, ARCHITECTURE, 0, end)];
    program.extend(place);
    program.push(instruction(LOAD, NUMBER_WORD, 0, 0));
    // Behind the questions come a jump to the list and the two answers.
    for (at, number) in (0..).zip(&allowed) {
        program.push(instruction(JUMP_IF_EQUAL, *number, questions - at, 0));
    }
    for (at, number) in (allowed.len() as u8..).zip(&absent) {
        program.push(instruction(JUMP_IF_EQUAL, *number, questions - at + 1, 0));
    }
    program.push(instruction(JUMP, 2, 0, 0));
    program.push(instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program.push(instruction(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the few instructions that the filter is made of, interpreted.
    fn answer(program: &[sock_filter], architecture: u32, number: u32, place: u64, arguments: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        (data[0], data[1]) = (number, architecture);
        let words = [place].into_iter().chain(arguments);
        for (at, word) in words.enumerate() {
            (data[2 + 2 * at], data[3 + 2 * at]) = (word as u32, (word >> 32) as u32);
        }
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LOAD => accumulator = data[k as usize / 4],
                0x54 => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += jump(accumulator == k),
                JUMP_IF_AT_LEAST => at += jump(accumulator >= k),
                0x25 => at += jump(accumulator > k),
                0x45 => at += jump(accumulator & k != 0),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const HOST: u64 = 0x7F00_0000_1000;
    const DRIVER: u64 = arena::plan::IMAGES + 0x1000;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    fn policies() -> impl Iterator<Item = Policy> {
        [false, true].into_iter().flat_map(|sockets| [false, true].map(|files| Policy { sockets, files }))
    }

    #[test]
    fn the_front_changes_no_answer_of_the_list() {
        for policy in policies() {
            let (list, whole) = (calls::list(policy).expect("a list"), calls::program(policy).expect("a program"));
            for number in 0..600 {
                for arguments in [[0; 6], [u64::MAX; 6], [2, 5, 3, 0, 0, 0]] {
                    let of_list = answer(&list, ARCHITECTURE, number, HOST, arguments);
                    let expected = if i64::from(number) == libc::SYS_clone3 { ENOSYS } else { of_list };
                    let found = answer(&whole, ARCHITECTURE, number, HOST, arguments);
                    assert_eq!(found, expected, "call {number} with {arguments:x?} under {policy:?}");
                }
            }
        }
    }

    #[test]
    fn only_what_the_policy_has_is_allowed() {
        for policy in policies() {
            let whole = calls::program(policy).expect("a program");
            let ask = |number: c_long| answer(&whole, ARCHITECTURE, number as u32, HOST, [0; 6]);
            assert_eq!([ask(libc::SYS_futex), ask(libc::SYS_execve)], [ALLOW, EPERM]);
            let bind = |thread| {
                answer(&whole, ARCHITECTURE, libc::SYS_sched_setaffinity as u32, HOST, [thread, 0, 0, 0, 0, 0])
            };
            assert_eq!([bind(0), bind(7)], [ALLOW, EPERM], "no thread binds another");
            let socket_calls = FREQUENT_SOCKETS.iter().map(|&number| ask(number));
            let expected = if policy.sockets { ALLOW } else { EPERM };
            assert!(socket_calls.into_iter().all(|answer| answer == expected), "{policy:?}");
        }
    }

    #[test]
    fn every_call_from_a_drivers_code_is_trapped_and_other_architectures_end_the_process() {
        for policy in policies() {
            let whole = calls::program(policy).expect("a program");
            for number in 0..600 {
                let trapped = answer(&whole, ARCHITECTURE, number, DRIVER, [0; 6]);
                assert_eq!(trapped, libc::SECCOMP_RET_TRAP, "call {number}");
                for place in [HOST, DRIVER] {
                    let other = answer(&whole, 0x4000_0003, number, place, [0; 6]);
                    assert_eq!(other, libc::SECCOMP_RET_KILL_PROCESS, "call {number}");
                }
            }
        }
    }
}
