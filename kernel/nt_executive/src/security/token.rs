//! Tokens: the one of the local system account.

use std::sync::OnceLock;

use gate::memory;
use nt_abi::{Handle, NtStatus};
use nt_object::ObjectType;

use super::sid;
use crate::handles;
use crate::pool::{self, Kind};
use crate::process;
use crate::raise::{Failure, finish};

gate::exports! {
    /// Tokens.
    pub static TABLE in "ntoskrnl.exe";
    "ZwOpenProcessToken" | "NtOpenProcessToken" = zw_open_process_token(process: Handle, access: u32, token: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ZwOpenProcessTokenEx" | "NtOpenProcessTokenEx" = zw_open_process_token_ex(process: Handle, access: u32, attributes: u32, token: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ZwOpenThreadToken" | "NtOpenThreadToken" = zw_open_thread_token(thread: Handle, access: u32, as_self: u8, token: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ZwOpenThreadTokenEx" | "NtOpenThreadTokenEx" = zw_open_thread_token_ex(thread: Handle, access: u32, as_self: u8, attributes: u32, token: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "ZwQueryInformationToken" | "NtQueryInformationToken" = zw_query_information_token(token: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "SeQueryInformationToken" = se_query_information_token(token: u64, class: u32, information: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsReferencePrimaryToken" = ps_reference_primary_token(process: u64) -> u64, irql <= APC, rules "K-177";
    "PsReferenceImpersonationToken" = ps_reference_impersonation_token(thread: u64, copy: u64, effective: u64, level: u64) -> u64, irql <= APC, rules "K-177";
    "PsDereferencePrimaryToken" = ps_dereference_primary_token(token: u64), irql <= APC, rules "K-177";
    "PsDereferenceImpersonationToken" = ps_dereference_primary_token(token: u64), irql <= APC, rules "K-177";
    "SeTokenType" = se_token_type(token: u64) -> u32, rules "K-177";
    "SeTokenIsAdmin" = se_token_is_admin(token: u64) -> u8, rules "K-177";
    "SeTokenIsRestricted" = se_token_is_restricted(token: u64) -> u8, rules "K-177";
    "SeQueryAuthenticationIdToken" = se_query_authentication_id_token(token: u64, id: u64) -> NtStatus, rules "K-177";
    "SeQuerySessionIdToken" = se_query_session_id_token(token: u64, id: u64) -> NtStatus, rules "K-177";
    data "SeTokenObjectType" = token_type_cell, rules "K-157";
}

/// Tokens.
pub static TOKEN: ObjectType = ObjectType::simple("Token", |_| {});

const BODY_BYTES: u64 = 16;
const TAG: pool::Tag = u32::from_le_bytes(*b"SeTk");
/// The logon id of the local system.
const SYSTEM_LUID: u64 = 0x3E7;
/// `TokenPrimary`.
const PRIMARY: u32 = 1;
/// `SE_GROUP_MANDATORY`, `_ENABLED_BY_DEFAULT`, `_ENABLED`, `_OWNER`.
const OWNER_GROUP: u32 = 0xE;
const MEMBER_GROUP: u32 = 0x7;

fn token_type_cell() -> u64 {
    static CELL: OnceLock<u64> = OnceLock::new();
    std::ptr::from_ref(CELL.get_or_init(|| TOKEN.block())) as u64
}

/// The system's token: its object lives as long as the run.
pub fn system() -> u64 {
    static SYSTEM: OnceLock<u64> = OnceLock::new();
    *SYSTEM.get_or_init(|| nt_object::create(&TOKEN, BODY_BYTES, 0).expect("memory for one small object"))
}

fn open(process: Handle, access: u32, kernel: bool, into: u64) -> Result<NtStatus, Failure> {
    nt_object::dereference(process::by_handle(process)?);
    let handle = nt_object::insert(system(), access, kernel, gate::caller()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    handles::store(into, handle)
}

unsafe extern "win64" fn zw_open_process_token(process: Handle, access: u32, token: u64) -> NtStatus {
    finish(open(process, access, false, token))
}

unsafe extern "win64" fn zw_open_process_token_ex(
    process: Handle,
    access: u32,
    attributes: u32,
    token: u64,
) -> NtStatus {
    let kernel = attributes & nt_abi::object::attributes::KERNEL_HANDLE != 0;
    finish(open(process, access, kernel, token))
}

/// No thread acts for somebody else, so none has a token of its own; a handle that leads nowhere is told first.
fn no_thread_token(thread: Handle) -> NtStatus {
    const CURRENT: Handle = Handle(u64::MAX - 1);
    if thread == CURRENT {
        return NtStatus::NO_TOKEN;
    }
    match nt_object::reference_by_handle(thread, Some(nt_dispatcher::thread::THREAD.block())) {
        Ok((thread, _)) => {
            nt_object::dereference(thread);
            NtStatus::NO_TOKEN
        }
        Err(status) => status,
    }
}

unsafe extern "win64" fn zw_open_thread_token(thread: Handle, _access: u32, _as_self: u8, _token: u64) -> NtStatus {
    no_thread_token(thread)
}

unsafe extern "win64" fn zw_open_thread_token_ex(
    thread: Handle,
    _access: u32,
    _as_self: u8,
    _attributes: u32,
    _token: u64,
) -> NtStatus {
    no_thread_token(thread)
}

/// An answer that holds pointers into itself: to be moved to where it will lie.
struct Answer {
    bytes: Vec<u8>,
    /// Where pointers lie, which are relative so far.
    pointers: Vec<usize>,
}

impl Answer {
    fn words(words: &[u32]) -> Self {
        Self { bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(), pointers: Vec::new() }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// A pointer, to be filled in by [`Answer::points_to_end`], and attributes behind it if there are some.
    fn pointer(&mut self, attributes: Option<u32>) -> usize {
        self.pad();
        let place = self.bytes.len();
        self.pointers.push(place);
        self.bytes.extend([0; 8]);
        if let Some(attributes) = attributes {
            self.bytes.extend(u64::from(attributes).to_le_bytes());
        }
        place
    }

    fn points_to_end(&mut self, pointer: usize, sid: &[u8]) {
        let end = self.bytes.len() as u64;
        self.bytes[pointer..pointer + 8].copy_from_slice(&end.to_le_bytes());
        self.bytes.extend_from_slice(sid);
    }

    /// The bytes as they are to be stored at `base`.
    fn at(mut self, base: u64) -> Vec<u8> {
        for place in self.pointers {
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[place..place + 8]);
            let moved = u64::from_le_bytes(word).wrapping_add(base);
            self.bytes[place..place + 8].copy_from_slice(&moved.to_le_bytes());
        }
        self.bytes
    }
}

/// What a class of information holds (`TOKEN_INFORMATION_CLASS`).
fn information(class: u32) -> Result<Answer, NtStatus> {
    let one = |sid: &[u8], attributes| {
        let mut answer = Answer::words(&[]);
        let pointer = answer.pointer(attributes);
        answer.points_to_end(pointer, sid);
        answer
    };
    Ok(match class {
        // TokenUser
        1 => one(&sid::system(), Some(0)),
        // TokenGroups: administrators, everyone, authenticated users
        2 => {
            let groups = [
                (sid::administrators(), OWNER_GROUP),
                (sid::make(1, &[0]), MEMBER_GROUP),
                (sid::make(5, &[11]), MEMBER_GROUP),
            ];
            let mut answer = Answer::words(&[groups.len() as u32]);
            let pointers: Vec<usize> = groups.iter().map(|(_, attributes)| answer.pointer(Some(*attributes))).collect();
            for (pointer, (sid, _)) in pointers.into_iter().zip(&groups) {
                answer.points_to_end(pointer, sid);
            }
            answer
        }
        // TokenPrivileges: all there are, enabled
        3 => {
            const FIRST: u32 = 2;
            const LAST: u32 = 35;
            const ENABLED: u32 = 3;
            let entries = (FIRST..=LAST).flat_map(|privilege| [privilege, 0, ENABLED]);
            let words: Vec<u32> = std::iter::once(LAST - FIRST + 1).chain(entries).collect();
            Answer::words(&words)
        }
        // TokenOwner
        4 => one(&sid::administrators(), None),
        // TokenPrimaryGroup
        5 => one(&sid::system(), None),
        // TokenSource
        7 => {
            let mut answer = Answer::words(&[]);
            answer.bytes.extend(b"*SYSTEM*");
            answer.bytes.extend([0; 8]);
            answer
        }
        // TokenType
        8 => Answer::words(&[PRIMARY]),
        // TokenStatistics: ids, no expiry, type, level, charge, counts
        10 => {
            let mut answer = Answer::words(&[SYSTEM_LUID as u32, 0, SYSTEM_LUID as u32, 0, u32::MAX, 0x7FFF_FFFF]);
            answer.bytes.extend(Answer::words(&[PRIMARY, 0, 0, 0, 3, 34, 0, 0]).bytes);
            answer
        }
        // TokenSessionId, and questions whose answer is no: restrictions, sandbox, virtualisation, integrity policy
        12 | 15 | 21 | 23 | 24 | 26 => Answer::words(&[0]),
        // TokenElevationType: the default; TokenElevation: yes
        18 | 20 => Answer::words(&[1]),
        // TokenDefaultDacl, TokenImpersonationLevel (not of a primary token), and what does not exist
        6 => gate::bugcheck::unimplemented("the information class TokenDefaultDacl"),
        _ => return Err(NtStatus::INVALID_INFO_CLASS),
    })
}

fn query(token: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Failure> {
    let (body, _) = nt_object::reference_by_handle(token, Some(TOKEN.block()))?;
    nt_object::dereference(body);
    let answer = information(class)?;
    let bytes = answer.bytes.len() as u32;
    memory::write_value(needed, bytes)?;
    if length < bytes {
        return Ok(NtStatus::BUFFER_TOO_SMALL);
    }
    memory::write(buffer, &answer.at(buffer))?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_query_information_token(
    token: Handle,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    finish(query(token, class, buffer, length, needed))
}

fn query_object(class: u32, into: u64) -> Result<NtStatus, Failure> {
    // Three classes give the number itself instead of a block that holds it.
    const TYPE: u32 = 8;
    const SESSION: u32 = 12;
    const ELEVATION: u32 = 20;
    let answer = information(class)?;
    if matches!(class, TYPE | SESSION | ELEVATION) {
        memory::write(into, &answer.bytes[..4])?;
        return Ok(NtStatus::SUCCESS);
    }
    let made = pool::allocate(answer.bytes.len() as u64, TAG, Kind::Paged, gate::caller());
    let block = made.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    memory::write(block, &answer.at(block))?;
    if let Err(fault) = memory::write_value(into, block) {
        // Nobody would ever learn of the block.
        pool::free(block, Some(TAG), gate::caller());
        return Err(fault.into());
    }
    Ok(NtStatus::SUCCESS)
}

/// Blocks are the driver's to free.
unsafe extern "win64" fn se_query_information_token(_token: u64, class: u32, information: u64) -> NtStatus {
    finish(query_object(class, information))
}

unsafe extern "win64" fn ps_reference_primary_token(_process: u64) -> u64 {
    nt_object::reference(system());
    system()
}

unsafe extern "win64" fn ps_reference_impersonation_token(
    _thread: u64,
    _copy: u64,
    _effective: u64,
    _level: u64,
) -> u64 {
    0
}

unsafe extern "win64" fn ps_dereference_primary_token(token: u64) {
    if token != 0 {
        nt_object::dereference(token);
    }
}

unsafe extern "win64" fn se_token_type(_token: u64) -> u32 {
    PRIMARY
}

unsafe extern "win64" fn se_token_is_admin(_token: u64) -> u8 {
    1
}

unsafe extern "win64" fn se_token_is_restricted(_token: u64) -> u8 {
    0
}

unsafe extern "win64" fn se_query_authentication_id_token(_token: u64, id: u64) -> NtStatus {
    finish(memory::write_value(id, SYSTEM_LUID).map(|()| NtStatus::SUCCESS).map_err(Failure::from))
}

unsafe extern "win64" fn se_query_session_id_token(_token: u64, id: u64) -> NtStatus {
    finish(memory::write_value(id, 0u32).map(|()| NtStatus::SUCCESS).map_err(Failure::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{kernel_thread, service};

    fn open_token() -> Handle {
        kernel_thread();
        let mut token = Handle(0);
        let arguments = [u64::MAX, 8, 0x200, &raw mut token as u64];
        assert_eq!(service("ZwOpenProcessTokenEx").call(&arguments), NtStatus::SUCCESS);
        token
    }

    #[test]
    fn user_of_the_process_is_the_local_system() {
        let token = open_token();
        let (mut buffer, mut needed) = ([0u64; 8], 0u32);
        let mut query = |class: u64, length: u64| {
            let arguments = [token.0, class, buffer.as_mut_ptr() as u64, length, &raw mut needed as u64];
            let status = service("ZwQueryInformationToken").call(&arguments);
            (status, needed, buffer)
        };
        assert_eq!(query(1, 27), (NtStatus::BUFFER_TOO_SMALL, 28, [0; 8]));
        let (status, needed, answer) = query(1, 28);
        assert_eq!((status, needed), (NtStatus::SUCCESS, 28));
        // SAFETY: the answer holds a pointer to the identifier behind it.
        assert_eq!(unsafe { sid::read(answer[0] as *const u8) }, sid::system());
        assert_eq!(query(8, 4).2[0] as u32, PRIMARY);
        assert_eq!(query(9, 64).0, NtStatus::INVALID_INFO_CLASS);
        assert_eq!(service("ZwClose").call(&[token.0]), NtStatus::SUCCESS);
    }

    #[test]
    fn thread_has_no_token_of_its_own() {
        let mut token = Handle(0);
        let arguments = [u64::MAX - 1, 8, 1, &raw mut token as u64];
        assert_eq!(service("ZwOpenThreadToken").call(&arguments), NtStatus::NO_TOKEN);
        assert_eq!(service("ZwOpenThreadToken").call(&[0x1234, 8, 1, 0]), NtStatus::INVALID_HANDLE);
    }

    #[test]
    fn groups_lead_to_their_identifiers_in_a_block_of_the_drivers() {
        let (token, mut block) = (service("PsReferencePrimaryToken").call_word(&[0]), 0u64);
        let status = service("SeQueryInformationToken").call(&[token, 2, &raw mut block as u64]);
        assert_eq!(status, NtStatus::SUCCESS);
        assert!(pool::find(block).is_some());
        // SAFETY: a count, padding, then pointers and attributes.
        unsafe {
            assert_eq!(*(block as *const u32), 3);
            let first = *((block + 8) as *const u64) as *const u8;
            assert_eq!(sid::read(first), sid::administrators());
        }
        pool::free(block, None, 0);
        service("PsDereferencePrimaryToken").call_word(&[token]);
    }
}
