//! The sample drivers.

use anyhow::Result;

use crate::workspace::{Workspace, run};

/// Builds them into `samples/out`.
pub fn build(workspace: &Workspace) -> Result<()> {
    run(workspace.command("make").args(["--silent", "-C", "samples"]))
}
