//! Who is asking, and what it may do.

use gate::memory;
use nt_abi::NtStatus;

use super::token;
use crate::raise::{Failure, access_violation, finish};

gate::exports! {
    /// Subjects and access checks.
    pub static TABLE in "ntoskrnl.exe";
    "SeCaptureSubjectContext" = se_capture_subject_context(context: u64), irql <= PASSIVE, rules "K-177";
    "SeReleaseSubjectContext" = se_release_subject_context(context: u64), irql <= PASSIVE, rules "K-177";
    "SeLockSubjectContext" = se_lock_subject_context(context: u64), irql <= PASSIVE, rules "K-177";
    "SeUnlockSubjectContext" = se_unlock_subject_context(context: u64), irql <= PASSIVE, rules "K-177";
    "SeAccessCheck" = se_access_check(descriptor: u64, context: u64, locked: u8, desired: u32, previous: u32, privileges: u64, mapping: u64, mode: u8, granted: u64, status: u64) -> u8, irql <= PASSIVE, rules "K-177";
    "SePrivilegeCheck" = se_privilege_check(privileges: u64, context: u64, mode: u8) -> u8, irql <= PASSIVE, rules "K-177";
    "SeSinglePrivilegeCheck" = se_single_privilege_check(privilege: u64, mode: u8) -> u8, irql <= PASSIVE, rules "K-177";
}

/// `SECURITY_SUBJECT_CONTEXT`: no impersonation, the system's token, an identifier for audits.
fn capture(context: u64) -> Result<NtStatus, Failure> {
    memory::write_value(context, [0, 0, token::system(), nt_dispatcher::process::SYSTEM_ID])?;
    nt_object::reference(token::system());
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn se_capture_subject_context(context: u64) {
    finish(capture(context));
}

unsafe extern "win64" fn se_release_subject_context(context: u64) {
    match memory::read_value::<[u64; 4]>(context) {
        Ok([_, _, held, _]) if held == token::system() => {
            nt_object::dereference(held);
            // So that a second release is noticed by whoever looks.
            let _ = memory::write_value(context + 16, 0u64);
        }
        Ok(_) => gate::finding("K-177", "a subject context was released that is not captured", gate::caller()),
        Err(fault) => access_violation(fault),
    }
}

/// The one token never changes.
unsafe extern "win64" fn se_lock_subject_context(_context: u64) {}

unsafe extern "win64" fn se_unlock_subject_context(_context: u64) {}

/// Kernel-mode callers, and the local system that they all are, get what they ask for; a descriptor is not looked at.
#[allow(clippy::too_many_arguments, reason = "NT's signature")]
unsafe extern "win64" fn se_access_check(
    _descriptor: u64,
    _context: u64,
    _locked: u8,
    desired: u32,
    previous: u32,
    privileges: u64,
    mapping: u64,
    _mode: u8,
    granted: u64,
    status: u64,
) -> u8 {
    /// `MAXIMUM_ALLOWED`
    const MAXIMUM: u32 = 0x0200_0000;
    let check = || -> Result<NtStatus, Failure> {
        let mapping: [u32; 4] = memory::read_value(mapping)?;
        let wanted = if desired & MAXIMUM != 0 { desired & !MAXIMUM | mapping[3] } else { desired };
        memory::write_value(granted, crate::rtl::map_generic(wanted, &mapping) | previous)?;
        if privileges != 0 {
            memory::write_value(privileges, 0u64)?;
        }
        memory::write_value(status, NtStatus::SUCCESS)?;
        Ok(NtStatus::SUCCESS)
    };
    finish(check()).is_success().into()
}

/// The local system holds every privilege.
unsafe extern "win64" fn se_single_privilege_check(_privilege: u64, _mode: u8) -> u8 {
    1
}

/// Those of a user-mode caller are marked as used; they are all held, as above.
fn use_privileges(set: u64, mode: u8) -> Result<NtStatus, Failure> {
    /// `SE_PRIVILEGE_USED_FOR_ACCESS`
    const USED: u32 = 0x8000_0000;
    /// Two counts; then for each privilege its number of eight bytes and its attributes.
    const HEAD: u64 = 8;
    const EACH: u64 = 12;
    const ATTRIBUTES: u64 = 8;
    let count: u32 = memory::read_value(set)?;
    for index in (0..u64::from(count)).filter(|_| mode != 0) {
        let at = set + HEAD + index * EACH + ATTRIBUTES;
        memory::write_value(at, memory::read_value::<u32>(at)? | USED)?;
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn se_privilege_check(privileges: u64, _context: u64, mode: u8) -> u8 {
    finish(use_privileges(privileges, mode)).is_success().into()
}

#[cfg(test)]
mod tests {
    use crate::testing::service;
    use nt_abi::NtStatus;

    #[test]
    fn check_grants_what_is_asked_for_after_mapping_it() {
        let (mapping, mut granted, mut status) = ([0x1u32, 0x2, 0x4, 0x1F], 0u32, 9u32);
        let (into, state) = (&raw mut granted as u64, &raw mut status as u64);
        let check = |desired: u64| {
            let arguments = [0, 0, 1, desired, 0x100, 0, mapping.as_ptr() as u64, 0, into, state];
            assert_eq!(service("SeAccessCheck").call_word(&arguments) as u8, 1);
            gate::memory::read_value::<u32>(into)
        };
        assert_eq!(check(0x8000_0040), Ok(0x141));
        assert_eq!(check(0x0200_0000), Ok(0x11F));
        assert_eq!(gate::memory::read_value(state), Ok(NtStatus::SUCCESS));
    }

    #[test]
    fn captured_context_holds_the_token_until_it_is_released() {
        let mut context = [9u64; 4];
        let place = context.as_mut_ptr() as u64;
        service("SeCaptureSubjectContext").call_word(&[place]);
        let token = gate::memory::read_value::<[u64; 4]>(place).expect("a context")[2];
        let before = nt_object::pointer_count(token).expect("a live object");
        assert!(before >= 2);
        service("SeReleaseSubjectContext").call_word(&[place]);
        assert_eq!(gate::memory::read_value::<[u64; 4]>(place).expect("a context")[2], 0);
    }
}
