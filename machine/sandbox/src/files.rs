//! No files, or those of one folder: Landlock, where the kernel has it.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

/// How far files are out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Landlock refuses them all but those of the folder that was allowed.
    Forbidden,
    /// Landlock refuses what this kernel's version of it knows.
    PartlyForbidden,
    /// This kernel has no Landlock; the allow-list alone holds.
    NoLandlock,
}

/// Puts every file and folder out of reach of the calling thread and of threads it starts, but for what lies in `allowed`.
/// Open descriptors stay usable.
///
/// For the first thing in a process, before it has other threads. Never fails: what the kernel lacks is said, not hidden.
pub fn forbid_files(allowed: Option<BorrowedFd<'_>>) -> Files {
    match restrict(allowed) {
        Ok(RulesetStatus::FullyEnforced) => Files::Forbidden,
        Ok(RulesetStatus::PartiallyEnforced) => Files::PartlyForbidden,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Files::NoLandlock,
    }
}

/// Whether the calling thread is the only one of the process: Landlock holds no thread that was there before.
pub fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

fn restrict(allowed: Option<BorrowedFd<'_>>) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?.create()?;
    if let Some(folder) = allowed {
        rules = rules.add_rule(PathBeneath::new(folder, in_folder()))?;
    }
    rules.restrict_self().map(|status| status.ruleset)
}

/// What may be done in the folder: everything that files and folders are for, but nothing is run, and nothing else is made.
fn in_folder() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
