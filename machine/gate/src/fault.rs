//! Faults: the signals that driver code, or host code on its behalf, runs into.

/// Installs the handlers. Once, before any driver code runs.
pub fn install() {}
