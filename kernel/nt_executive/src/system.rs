//! The system as a whole: its death and its version.

use gate::bugcheck::BugCheck;

gate::exports! {
    /// Bugchecks and system information.
    pub static TABLE in "ntoskrnl.exe";
    "KeBugCheckEx" = ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64), rules "K-205";
    "KeBugCheck" = ke_bug_check(code: u32), rules "K-205";
}

unsafe extern "win64" fn ke_bug_check_ex(code: u32, a: u64, b: u64, c: u64, d: u64) {
    gate::bugcheck(BugCheck(code), [a, b, c, d]);
}

unsafe extern "win64" fn ke_bug_check(code: u32) {
    gate::bugcheck(BugCheck(code), [0; 4]);
}
