//! The checkout, and commands run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The root of the checkout.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout this program was built from.
    pub fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo run`; the built-in value serves a program started by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask has no parent folder")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A path below the root.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A file's text.
    pub fn read(&self, relative: impl AsRef<Path>) -> Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A program to be run in the root.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Cargo with these arguments.
    pub fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments);
        command
    }

    /// What `cargo metadata` says of the workspace, as far as `T` asks.
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<T> {
        let mut metadata = self.cargo(["metadata", "--no-deps", "--format-version", "1"]);
        let output = metadata.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("output of cargo metadata")
    }

    /// Where cargo puts what it builds. Cargo is asked, as variables and several configuration files have a say in it.
    pub fn target(&self) -> Result<PathBuf> {
        #[derive(Deserialize)]
        struct Metadata {
            target_directory: PathBuf,
        }
        Ok(self.metadata::<Metadata>()?.target_directory)
    }

    /// Files under version control, relative to the root.
    pub fn tracked_files(&self) -> Result<Vec<PathBuf>> {
        let output = self.command("git").args(["ls-files", "-z"]).output().context("cannot start git")?;
        if !output.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let paths = names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()));
        // A file removed from the folder but not yet from the index has nothing to be checked.
        Ok(paths.filter(|path| self.path(path).exists()).collect())
    }
}

/// Runs a command to its end, its output going to the terminal; an unsuccessful end is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!(
            "{program} {} ended with {status}",
            command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}

/// Announces a step, runs it, and says how long it took.
pub fn step<T>(title: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {title}");
    let started = Instant::now();
    let result = body().with_context(|| format!("step failed: {title}"))?;
    println!("    {:.1} s", started.elapsed().as_secs_f32());
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_folder_of_a_configuration_file_is_found() {
        let root = env::temp_dir().join(format!("drydock-xtask-{}", std::process::id()));
        fs::create_dir_all(root.join(".cargo")).expect("a folder");
        fs::write(root.join("Cargo.toml"), "[package]\nname = \"x\"\n[[bin]]\nname = \"x\"\npath = \"x.rs\"\n")
            .expect("a package");
        fs::write(root.join(".cargo/config.toml"), "[build]\ntarget-dir = \"elsewhere\"\n").expect("a configuration");
        let target = Workspace { root: root.clone() }.target();
        fs::remove_dir_all(&root).expect("it was there");
        // The variable goes before the file, here as in any other package.
        let expected =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("elsewhere"), |folder| root.join(folder));
        assert_eq!(target.expect("cargo can be asked"), expected);
    }
}
