//! No files: Landlock, where the kernel has it.

use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};

/// How far files are out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Landlock refuses them all.
    Forbidden,
    /// Landlock refuses what this kernel's version of it knows.
    PartlyForbidden,
    /// This kernel has no Landlock; the allow-list alone holds.
    NoLandlock,
}

/// Puts every file and folder out of reach of the calling thread and of threads it starts. Open descriptors stay usable.
///
/// For the first thing in a process, before it has other threads. Never fails: what the kernel lacks is said, not hidden.
pub fn forbid_files() -> Files {
    let rules = Ruleset::default().handle_access(AccessFs::from_all(ABI::V5));
    let outcome = rules.and_then(Ruleset::create).and_then(landlock::RulesetCreated::restrict_self);
    match outcome.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => Files::Forbidden,
        Ok(RulesetStatus::PartiallyEnforced) => Files::PartlyForbidden,
        Ok(RulesetStatus::NotEnforced) | Err(_) => Files::NoLandlock,
    }
}
